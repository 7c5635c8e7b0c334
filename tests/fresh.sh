#!/usr/bin/env bash
# The README's two commands in a fresh clone on a minimal Debian: tests/fresh.sh SUITE [USER:TARGET...]
#
#   tests/fresh.sh trixie                       make train and make test as an ordinary user, make train as root
#   tests/fresh.sh bookworm root:train          only this
#
# Needs root, and debootstrap, which it installs. Minimal systems are kept in ~/.cache/gluon_lenet-roots, with pip's
# downloads; each run works in a copy. Mounts are made in a namespace of this script's own and end with it.
set -euo pipefail
if [ -z "${FRESH_NAMESPACE:-}" ]; then
  [ "$(id -u)" = 0 ] || { echo "error: tests/fresh.sh needs root, to build and enter another system" >&2; exit 2; }
  FRESH_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$@"
fi
cd "$(dirname "$0")/.."

suite=$1
shift
runs=("${@:-}")
[ -n "${runs[0]}" ] || runs=(tester:train tester:test root:train)
roots=${XDG_CACHE_HOME:-$HOME/.cache}/gluon_lenet-roots
minimal=$roots/$suite
say() { echo "--- $suite: $* ($((SECONDS / 60)) min $((SECONDS % 60)) s)"; }

if [ ! -e "$minimal" ]; then
  command -v debootstrap >/dev/null || {
    apt-get -qq update && apt-get -qq -o DPkg::Lock::Timeout=600 install -y --no-install-recommends debootstrap
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
trap 'umount -R "$root/proc" "$root/dev" "$root/pip" 2>/dev/null; rm -rf --one-file-system "$root"' EXIT
cp -a "$minimal/." "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"

# What this machine needs to reach the package registries, in files and in variables.
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/npmrc /etc/ssl/certs/ca-certificates.crt /etc/apt/apt.conf; do
  [ ! -e "$file" ] || cp -L "$file" "$root$file"
done
reach=()
while IFS= read -r name; do
  case $name in
    PIP_CACHE_DIR) ;;
    PIP_* | *_[pP][rR][oO][xX][yY] | *_PROXY | npm_config_* | SSL_CERT_FILE | REQUESTS_CA_BUNDLE | NODE_EXTRA_CA_CERTS) reach+=("$name=${!name}") ;;
  esac
done < <(compgen -e)

inside() { # inside USER COMMAND
  local path=/usr/local/bin:/usr/bin:/bin
  [ "$1" != root ] || path=/usr/local/sbin:/usr/sbin:/sbin:$path
  chroot --userspec="$1:$1" "$root" /usr/bin/env -i "${reach[@]}" \
    PATH="$path" HOME="/home/$1" USER="$1" PIP_CACHE_DIR="/pip/$1" /bin/sh -c "$2"
}

for run in "${runs[@]}"; do
  user=${run%:*} target=${run#*:}
  home=$root/home/$user
  if [ ! -e "$home" ]; then
    [ "$user" = root ] || chroot "$root" useradd --create-home "$user"
    git clone --quiet . "$home/gluon_lenet"
    [ ! -e ~/.npmrc ] || cp ~/.npmrc "$home"
    mkdir -p "$roots/pip/$user" "$root/pip/$user"
    mount --bind "$roots/pip/$user" "$root/pip/$user"
    chroot "$root" chown -R "$user:$user" "/home/$user" "/pip/$user"
  fi
  if [ "$target" = test ] && ! [ -e "$root/usr/bin/npm" ]; then
    inside root "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends npm" >/dev/null
    say "npm installed, where the README says that make test may need it"
  fi
  inside "$user" "cd ~/gluon_lenet && make $target"
  say "make $target as $user passed"
done
