#!/bin/bash
# The steps of slurm/Dockerfile and slurm/cairn.def, inside an image of Debian 12:
#
#   slurm/container.sh build PREFIX    installs what Cairn is built with, builds it and installs it into PREFIX
#   slurm/container.sh run PREFIX      in an image that has only PREFIX: installs what Cairn runs with
#
# PREFIX/share/cairn/packages says what that is.
set -euo pipefail
[ $# -eq 2 ] || {
    sed -n '2,/^set /{ /^#/s/^# \{0,1\}//p }' "$0" >&2
    exit 2
}
prefix=$2
export DEBIAN_FRONTEND=noninteractive

case $1 in
    build)
        cd "$(dirname "$0")/.."
        .ci/setup program git # git names the commit
        cmake -S . -B /tmp/cairn-build -G Ninja -DCMAKE_BUILD_TYPE=Release
        cmake --build /tmp/cairn-build
        cmake --install /tmp/cairn-build --prefix "$prefix" --strip
        install "$0" "$prefix/share/cairn/slurm/"
        # dpkg knows files of /lib by either of their names.
        ldd "$prefix/bin/cairn" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | while read -r library; do
            dpkg -S "$library" 2>/dev/null || dpkg -S "/usr$library" 2>/dev/null || dpkg -S "${library#/usr}"
        done | sed 's/:.*//' | sort -u >"$prefix/share/cairn/packages"
        rm -rf /tmp/cairn-build
        ;;
    run)
        apt-get update -qq
        mapfile -t packages <"$prefix/share/cairn/packages"
        apt-get install -y -qq --no-install-recommends openmpi-bin "${packages[@]}"
        rm -rf /var/lib/apt/lists/*
        "$prefix/bin/cairn" --version
        ;;
    *)
        echo "container.sh: $1 is neither build nor run" >&2
        exit 2
        ;;
esac
