#!/bin/bash
# layers_test.sh SOURCE: layers.sh must find each offence planted in a copy of the sources, and only in the copy.
set -uo pipefail
lint=$(dirname "$(realpath "$0")")/layers.sh
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r "$1"/{CMakeLists.txt,src,dist,io} "$copy"
mkdir "$copy/build"
git -C "$copy" init -q
failures=0

build() {
    echo "$1" | cc -c -x c - -o "$copy/build/planted.o" && ar rcs "$copy/build/libplanted.a" "$copy/build/planted.o"
}

complain() {
    printf '%s\n%s\n' "$1" "$output"
    failures=$((failures + 1))
}

build 'const int constant = 1; static int *const address = 0;
       int *const *both(void); int *const *both(void) { return &address; }'
output=$(bash "$lint" "$copy" "$copy/build") || complain 'the copy should be clean:'

# plant FILE TEXT MESSAGE: the text in a file of the copy must give a line with file and message.
planted=()
plant() {
    mkdir -p "$(dirname "$copy/$1")"
    printf '%s\n' "$2" >>"$copy/$1"
    planted+=("$1" "$3")
}

plant src/core/planted_up.c '#include "src/tensor/tensor.h"' 'goes up: core may not use tensor'
plant src/tensor/planted_aside.c '  #  include "io/config/config.h"' 'goes up: tensor may not use config'
plant src/model/planted_cli.c '#include "src/cli/command.h"' 'goes up: model may not use cli'
plant src/ops/kernels/planted.c '#include "src/tensor/tensor.h"' 'goes up: kernels may not use tensor'
plant src/train/planted_path.c '#include "trainer.h"' 'is in no room'
plant src/planted/planted.c '' 'in no room of CMakeLists.txt'
plant dist/parallel/planted_private.c '#include "dist/mesh/mesh_private.h"' 'is private to dist/mesh'
plant dist/parallel/planted_mpi.c '#include "dist/mesh/mesh_mpi.h"' 'is for io/checkpoint and dist/matrix only'
plant src/train/planted_file.c '#include "io/checkpoint/file.h"' 'is private to io/checkpoint'
plant src/model/planted_kernel.c '#include "src/ops/kernels/kernels.h"' 'is private to src/ops'
plant src/train/planted_mpi_h.c '#include <mpi.h>' 'MPI outside'
plant src/train/planted_call.c 'int r = MPI_Barrier(x);' 'MPI outside'
plant io/data/planted_mpi.c 'MPI_Comm c;' 'MPI outside'
plant src/train/planted_hdf5.c '#include <hdf5.h>' 'HDF5 outside'
plant dist/mesh/planted_hdf5.c 'hid_t f = H5Fopen(n, 0, 0);' 'HDF5 outside'
plant src/optim/planted_grid.c 'pdgemm_(a, b);' 'ScaLAPACK outside'
plant dist/parallel/planted_grid.c 'int h = Csys2blacs_handle(c);' 'ScaLAPACK outside'
plant src/train/planted_exit.c '/* a comment */ exit(1);' 'exit outside'
plant io/data/planted_abort.c '    abort();' 'exit outside'
plant src/core/planted_rand.c 'return rand();' 'hidden state'
plant src/core/planted_long.c "$(yes '' | head -n 501; echo x)" 'more than 500 lines'
plant src/core/planted_function.c "$(printf 'void f(void)\n{\n'; yes ';' | head -n 70; echo '}')" 'a function of 72 lines'
plant src/core/planted_alone.h 'int64_t planted(void);' 'header alone'
plant planted.txt '' 'at the top level'
git -C "$copy" add planted.txt
# Words in comments and texts are no offence.
printf '%s\n' '/* MPI_Send,' 'exit( */ const char *s = "H5Fopen exit(1) // /*";' '// abort()' >"$copy/src/core/harmless.c"
build 'int counter; static int hidden = 1;
       int *both(void); int *both(void) { return counter ? &counter : &hidden; }'
planted+=(libplanted.a 'variable of the whole program' counter 'variable of the whole program')
planted+=(hidden 'variable of the whole program')

if output=$(bash "$lint" "$copy" "$copy/build"); then
    complain 'the planted offences were not found:'
fi
for ((i = 0; i < ${#planted[@]}; i += 2)); do
    grep -F -- "${planted[i]}" <<<"$output" | grep -qF -- "${planted[i + 1]}" ||
        complain "not found: ${planted[i]}: ${planted[i + 1]}"
done
if grep -q harmless <<<"$output"; then
    complain 'found in a comment or a text:'
fi

sed -i '/^cairn_room(/d' "$copy/CMakeLists.txt"
output=$(bash "$lint" "$copy" "$copy/build") && complain 'without a table of rooms it should fail:'
[ "$failures" -eq 0 ] && echo "$((${#planted[@]} / 2)) planted offences found"
