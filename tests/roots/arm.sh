#!/usr/bin/env bash
# Linux on ARM, emulated: tests/roots/arm.sh PYTHON STEP..., where PYTHON has the packages of the lock file
#
#   tests/roots/arm.sh .venv/bin/python libraries basics kernels train
#
# The arm64 system is a Debian unpacked here with the lock's aarch64 wheels, and kept in ~/.cache/gluon_lenet-roots; qemu
# runs its programs, in separate namespaces, so that no mount and no process outlives this. Needs root, and
# debootstrap and qemu-user-static, which it installs. Emulation is slow: nothing here measures speed.
set -euo pipefail
python=$(realpath -s "$1")
shift
cd "$(dirname "$0")/../.."
system=arm64
source tests/roots/system.sh
suite=trixie # Python 3.13, of which NumPy 1 has no wheels
root=$roots/arm64-$suite-$(sha256sum <requirements.txt | cut -c1-12)
need debootstrap qemu-user-static

if [ ! -e "$root" ]; then
  rm -rf "$roots/arm64-"*
  mkdir -p "$roots"
  debootstrap --foreign --arch=arm64 --variant=minbase --include=python3,libgomp1 \
    "$suite" "$root.part" >"$root.log" 2>&1 || { tail -5 "$root.log" >&2; exit 1; }
  for package in "$root.part"/var/cache/apt/archives/*.deb; do
    dpkg-deb -x "$package" "$root.part"
  done
  site=$(echo "$root.part"/usr/lib/python3.*) # the pattern of one folder: that of Debian's Python
  version=${site##*/python}
  site=$root.part/usr/local/lib/python$version/dist-packages
  # pip reads the lock's markers as those of the Python that runs it. d2lzh has no wheel, and no step needs it.
  "$python" - "$version" >"$root.part/wheels.txt" <<'END'
import sys
from packaging.requirements import Requirement

arm = {"python_version": sys.argv[1], "python_full_version": f"{sys.argv[1]}.0", "platform_machine": "aarch64"}
for line in open("requirements.txt"):
    if line.strip() and not line.lstrip().startswith("#"):
        package = Requirement(line.strip())
        if package.name != "d2lzh" and (package.marker is None or package.marker.evaluate(arm)):
            print(f"{package.name}{package.specifier}")
END
  platforms=$(printf -- '--platform manylinux_2_%d_aarch64 ' $(seq 17 41))
  # shellcheck disable=SC2086
  "$python" -m pip install -qq --disable-pip-version-check --no-deps --no-compile --only-binary=:all: \
    --python-version "$version" --ignore-requires-python --platform manylinux2014_aarch64 $platforms \
    --target "$site" -r "$root.part/wheels.txt"
  "$python" - "$site" <<'END'
import shutil, sys
from gluon_lenet.machine.libraries import OPENBLAS
from gluon_lenet.machine.packages import unpacked_wheel

with unpacked_wheel(OPENBLAS, grown=lambda size: None) as unpacked:
    shutil.copytree(unpacked / OPENBLAS.folder, f"{sys.argv[1]}/{OPENBLAS.folder}")
END
  mkdir -p "$root.part"/{code,data}
  mv "$root.part" "$root"
  say "system built"
fi
PYTHONPATH=. "$python" -m gluon_lenet.data fetch >/dev/null

inside() { # inside COMMAND...
  unshare --user --map-root-user --mount --pid --fork --kill-child --propagation private bash -euc '
    root=$1 data=$2
    shift 2
    mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
    elf="\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    mask="\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
    printf %s ":arm64:M::$elf:$mask:/usr/bin/qemu-aarch64-static:F" >/proc/sys/fs/binfmt_misc/register
    mount --rbind /proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --rbind . "$root/code"
    mount --bind "$data" "$root/data"
    exec chroot "$root" /usr/bin/env -i -C /code PATH=/usr/bin:/bin HOME=/tmp GLUON_LENET_DATA=/data \
      NUMBA_CACHE_DIR=/var/cache/numba PYTHONPATH=/code PYTHONPYCACHEPREFIX=/var/cache/python "$@"
  ' inside "$root" "${GLUON_LENET_DATA:-$HOME/.cache/gluon_lenet}" "$@"
}

tests() { # tests ARGUMENTS...
  inside python3 -m pytest -q -p no:cacheprovider "$@"
}

for step in "$@"; do
  case $step in
    libraries)
      find "$root"/usr/local/lib/python3*/dist-packages/mxnet -type l -delete
      inside python3 -m gluon_lenet.libraries
      ;;
    basics) # in one process, since to import MXNet takes half a minute
      tests tests/compat/test_compat.py tests/data/test_data.py tests/compat/test_linalg.py \
        -k "ps_lite or mxnet_on_this_numpy or whole_data_set or pixels or linalg"
      ;;
    kernels) tests tests/engines/test_fused.py -k "gradients_equal_autograds and -0]" ;;
    train) inside python3 tests/helpers/small_train.py --epochs 1 --run-dir "/tmp/run-$$" ;;
    *) echo "error: unknown step $step" >&2; exit 2 ;;
  esac
  say "$step passed"
done
