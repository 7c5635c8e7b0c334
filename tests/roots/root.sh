# A copy of a minimal Debian to run commands in. Sourced by fresh.sh and container.sh, which set `suite`, `packages` (more
# of them) and `minimal` (where it is kept) before; afterwards `inside USER COMMAND` runs a command there, with the
# variables of the array `variables`.
#
# Needs root, and debootstrap, which it installs. The minimal systems are kept in ~/.cache/gluon_lenet-roots, with pip's
# downloads; each call works in a copy, in separate namespaces, so that no mount and no process outlives it.
system=$suite
source "$(dirname "${BASH_SOURCE[0]}")/system.sh"
minimal=$roots/$minimal
variables=()

if [ -z "${FRESH_ROOT:-}" ]; then
  if [ ! -e "$minimal" ]; then
    need debootstrap
    scripts=/usr/share/debootstrap/scripts
    [ -e "$scripts/$suite" ] || ln -s sid "$scripts/$suite" # a suite younger than this debootstrap
    rm -rf "$minimal.part"
    mkdir -p "$roots"
    debootstrap --variant=minbase ${packages:+--include="$packages"} \
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
mount --rbind /dev "$root/dev"

# What this machine needs to reach the package registries: files, apt's settings, variables.
copy_settings() {
  local file
  for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/npmrc /etc/ssl/certs/ca-certificates.crt; do
    [ ! -e "$file" ] || install -D -m 644 "$(realpath "$file")" "$root$file"
  done
}
copy_settings
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
  chroot --userspec="$1:$1" "$root" /usr/bin/env -i "${reach[@]}" PATH="$path" HOME="/home/$1" USER="$1" \
    PIP_CACHE_DIR="/pip/$1" DEBIAN_FRONTEND=noninteractive "${variables[@]}" /bin/sh -c "$2"
}

keep_downloads() { # keep_downloads USER: what his pip downloads is there at the next call, too
  [ ! -e "$root/pip/$1" ] || return 0
  mkdir -p "$roots/pip/$1" "$root/pip/$1"
  mount --bind "$roots/pip/$1" "$root/pip/$1"
  chroot "$root" chown -R "$1:$1" "/pip/$1"
}
