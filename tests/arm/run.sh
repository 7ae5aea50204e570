#!/bin/bash
# run.sh: builds for aarch64 in build-arm with Debian's cross compiler, against Debian's own packages for it, and runs
# the unit tests and the conformance cases there under qemu. From the top of the checkout; `make arm`.
#
# The packages are unpacked into build-arm-sysroot, not installed, so nothing of this machine changes. Ranks are started
# by the mpirun of this machine, which has to be of the same Debian release as they are.
set -euo pipefail
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
mirror=${CAIRN_MIRROR:-http://deb.debian.org/debian}
sysroot=build-arm-sysroot
packages=libc6-dev,libgomp1,libopenmpi-dev,libhdf5-openmpi-dev,libdnnl-dev,libyaml-dev,libjansson-dev,libxxhash-dev
packages+=,libisal-dev,libopenblas-openmp-dev,libscalapack-openmpi-dev,libpng-dev,libjpeg-dev,zlib1g-dev
packages+=,libpcre2-dev,libutf8proc-dev,libzstd-dev,libcmocka-dev

.ci/setup gcc-aarch64-linux-gnu qemu-user mmdebstrap
if [ "$(cat $sysroot/packages 2>/dev/null)" != "$release $packages" ]; then
    rm -rf $sysroot
    mmdebstrap --quiet --variant=extract --architectures=arm64 --include=$packages "$release" $sysroot "$mirror"
    echo "$release $packages" >$sysroot/packages
fi
.ci/configure build-arm -DCMAKE_TOOLCHAIN_FILE="$PWD/tests/arm/toolchain.cmake" -DCAIRN_SLOWNESS=10
cmake --build build-arm

program() { qemu-aarch64 -L $sysroot build-arm/cairn "$@"; }
program --version
program --version | grep -q '^processor .*asimd' || {
    echo "arm: the program does not know the processor" >&2
    exit 1
}
# unit.lock knows processes by when they were started, of which qemu tells a process itself another time than others.
ctest --test-dir build-arm -j2 -L '^(unit|conformance)$' -E '^unit\.lock$' --output-on-failure --no-tests=error "$@"
