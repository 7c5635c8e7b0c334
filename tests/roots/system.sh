# Shared by root.sh and arm.sh, which set `system`, the name of what they build, before. Needs root.
[ "$(id -u)" = 0 ] || { echo "error: $0 needs root, to build and enter another system" >&2; exit 2; }
roots=${XDG_CACHE_HOME:-$HOME/.cache}/gluon_lenet-roots # where systems are kept

say() { echo "--- $system: $* ($((SECONDS / 60)) min $((SECONDS % 60)) s)"; }

need() { # need PACKAGE...: install those of Debian's packages that are not there
  local package
  for package in "$@"; do
    dpkg -s "$package" >/dev/null 2>&1 || {
      apt-get -qq update
      apt-get -qq -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "$package" >/dev/null
    }
  done
}
