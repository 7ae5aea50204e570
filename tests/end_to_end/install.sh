#!/bin/bash
# The program installed into a prefix and used from there: scripts for Slurm, configurations, man page, completion,
# environment module; what `cairn --version` says; the HDF5 that a build accepts.
set -u
. "$(dirname "$0")/library.sh" "$@"

SOURCE=$(cd "$OLDPWD" && realpath "$1")
BUILD=$(dirname "$CAIRN")
PREFIX=$WORK/prefix
grep -qs '^CAIRN_SANITIZE:STRING=.' "$BUILD/CMakeCache.txt" && give_up "a build with sanitizers is not installed"
cmake --install "$BUILD" --prefix "$PREFIX" >installed 2>&1 || give_up "cmake --install: $(tail -n 3 installed)"
# Nothing of the build or of the sources may be needed from here on: a program of another name would not be found.
CAIRN=$PREFIX/bin/cairn
SLURM=$PREFIX/share/cairn/slurm

# -- The scripts for Slurm, as Slurm runs them: a copy in a folder of its own ----------------------------------------------

text_file text.txt 300
mkdir spool bin
cp "$SLURM/train.sbatch" spool/slurm_script
cat >bin/srun <<'END'
#!/bin/sh
# What follows the options is the program.
while case $1 in -*) true ;; *) false ;; esac do shift; done
exec mpirun -n 2 "$@"
END
printf '#!/bin/sh\nexit 1\n' >bin/squeue
chmod +x bin/*
small=(--set data.train=text.txt --set training.steps=2 --set optimizer.warmup_steps=0 --set training.batch=2 --set training.micro_batch=1
    --set training.sequence_length=16 --set evaluation.every=0 --set run.prompt= --set mesh.pipeline=1 --set mesh.tensor=2)
env -u CAIRN PATH="$WORK/bin:$PATH" SLURM_JOB_ID=7 SLURM_JOB_NUM_NODES=1 SLURM_NTASKS=2 SLURM_CPUS_ON_NODE=2 \
    timeout "$(limit)" bash spool/slurm_script bible.yaml "${small[@]}" --set run.folder=job >out 2>err </dev/null ||
    fail "train.sbatch: $(grep -v '^$' err | tail -n 3)"
grep -q "bible.yaml is not here; taking $PREFIX/share/cairn/configs/bible.yaml" err || fail "train.sbatch: $(cat err)"
steps_are job 1 2 || fail "train.sbatch: steps $(losses job)"
# A file of that name beside it comes first, and is the program's own of a checkout that is not installed.
sed "s/^ *layers:.*/  layers: 3/" "$PREFIX/share/cairn/configs/study.yaml" >study.yaml
"$SLURM/scaling.sh" --list --ntasks-per-node=2 -- study.yaml --ranks 1,2 "${small[@]:0:2}" >out 2>err || fail "scaling.sh: $(cat err)"
grep -q -- ' study.yaml --ranks 1,2' out || fail "scaling.sh: a CONFIG that is here: $(cat out)"
rm study.yaml
"$SLURM/scaling.sh" --list --ntasks-per-node=2 -- configs/study.yaml --ranks 1,2 "${small[@]:0:2}" >out 2>err || fail "scaling.sh: $(cat err)"
grep -q -- "$SLURM/scaling.sh --in-job $PREFIX/share/cairn/configs/study.yaml --ranks 1,2" out || fail "scaling.sh: $(cat out)"
# That of the checkout, where nothing is built, takes the program of PATH, or says what to do.
(
    unset CAIRN
    PATH="$WORK/bin:$PREFIX/bin:$PATH" SLURM_JOB_ID=7 SLURM_JOB_NUM_NODES=1 SLURM_NTASKS=2 SLURM_CPUS_ON_NODE=2 \
        timeout "$(limit)" bash "$SOURCE/slurm/train.sbatch" "$PREFIX/share/cairn/configs/bible.yaml" "${small[@]}" \
        --set run.folder=path >out 2>err </dev/null
) || fail "train.sbatch of the checkout: $(tail -n 3 err)"
steps_are path 1 2 || fail "train.sbatch of the checkout: steps $(losses path)"
(unset CAIRN && SLURM_JOB_ID=7 SLURM_JOB_NUM_NODES=1 bash "$SOURCE/slurm/train.sbatch" x.yaml 2>err)
[ $? -eq 2 ] && grep -q 'no program cairn; .*set CAIRN$' err || fail "no program: $(cat err)"
# A job file of the planner starts the script that is installed beside its program.
must "plan" 1 plan "$PREFIX/share/cairn/configs/bible.yaml" "${small[@]}" --set mesh.data=1 --sbatch job.sh --ranks 2
grep -q "^exec bash '$SLURM/train.sbatch' '$PREFIX/share/cairn/configs/bible.yaml'" job.sh || fail "plan: $(cat job.sh)"

# -- Completion ----------------------------------------------------------------------------------------------------------

# offered LINE: what bash would offer behind it, in a line.
offered() {
    bash -c '. "$1" && COMP_LINE=$2 COMP_POINT=${#2} && { _cairn; echo "${COMPREPLY[*]}"; }' - \
        "$PREFIX/share/bash-completion/completions/cairn" "$CAIRN $1" 2>err
}
# offers LINE WORD...: exactly these, in any order.
offers() {
    local line=$1 got want
    shift
    got=$(offered "$line" | tr ' ' '\n' | sort | paste -sd ' ')
    want=$(printf '%s\n' "$@" | sort | paste -sd ' ')
    [ "$got" = "$want" ] || fail "completion of \"cairn $line\": $got instead of $want $(cat err)"
}
commands=(train data tokenizer eval evolve generate predict checkpoint bench plan scale doctor report analyze config export import)
offers "" "${commands[@]}" help --help --version
offers "t" tokenizer train
offers "help c" checkpoint config
offers "checkpoint " inspect verify diff convert
offers "bench " kernels collectives matrices step generate
offers "train run.yaml --a" --accept-changes --anew
offers "train run.yaml --resume " auto none
offers "eval run.yaml --memory o" on off
offers "eval run.yaml --set model.depth.ki" model.depth.kind=
offers "eval run.yaml --set model.depth.kind=m" mod mor
offers "eval run.yaml --set=model.bias=" true false
offers "help config model.depth.g" model.depth.gate
offers "train run" # a file: bash's own
# Each option that a command's help names.
for command in "${commands[@]}"; do
    options=$("$CAIRN" help "$command" | grep -o -e '--[a-z][a-z-]*' | sort -u | paste -sd ' ')
    # shellcheck disable=SC2086
    [ -z "$options" ] || offers "$command --" $options
done

# -- The man page --------------------------------------------------------------------------------------------------------

page=$PREFIX/share/man/man1/cairn.1
if command -v man >/dev/null; then
    MANWIDTH=100 man --warnings -E UTF-8 -l "$page" >rendered 2>warnings || fail "man: $(cat warnings)"
    [ ! -s warnings ] || fail "man: $(head -n 3 warnings)"
elif command -v groff >/dev/null; then
    groff -man -ww -T utf8 -rLL=100n "$page" >rendered 2>warnings || fail "groff: $(cat warnings)"
    [ ! -s warnings ] || fail "groff: $(head -n 3 warnings)"
else
    say "neither man nor groff: the page is not rendered"
    sed 's/\\-/-/g' "$page" >rendered
fi
sed -i 's/.\x08//g; s/\x1b\[[0-9;]*m//g; s/‐/-/g; s/−/-/g' rendered
for command in "${commands[@]}"; do
    grep -qx " *\(\.SS \)\?cairn $command" rendered || fail "man: no section of cairn $command"
    for option in $("$CAIRN" help "$command" | sed -n 's/^  \(--[a-z-]*\) .*/\1/p'); do
        grep -q "^ *\(\.B \)\?$option\( \|$\)" rendered || fail "man: no $option of $command"
    done
done
"$CAIRN" config | awk '/^[a-z]/ { section = $1 } /^  [a-z]/ { print section "." $1 }' >keys
[ "$(wc -l <keys)" -gt 50 ] || fail "config: $(wc -l <keys) settings"
while read -r key; do
    grep -q "^ *\(\.B \)\?${key//./\\.}$" rendered || fail "man: no setting $key"
done <keys

# -- The environment module ----------------------------------------------------------------------------------------------

modulecmd=$(find /usr/share/modules /usr/lib -name modulecmd.tcl 2>/dev/null | head -n 1)
if [ -n "$modulecmd" ] && command -v tclsh >/dev/null; then
    tclsh "$modulecmd" sh use "$PREFIX/share/modulefiles" >use 2>err
    (. ./use && tclsh "$modulecmd" sh load cairn) >load 2>>err
    where=$(. ./use && . ./load && command -v cairn && echo "$CAIRN_SLURM $CAIRN_CONFIGS $MANPATH")
    [[ $where == "$CAIRN"$'\n'"$SLURM $PREFIX/share/cairn/configs $PREFIX/share/man"* ]] ||
        fail "the module leads to $where: $(cat err)"
else
    say "no environment modules here: the module is not loaded"
fi

# -- What the program says of itself -------------------------------------------------------------------------------------

"$CAIRN" --version >version || fail "--version fails"
for line in '1s/^cairn [0-9]*\.[0-9]*\.[0-9]*$/&/p' '2s/^commit  *\([0-9a-f]\{12\}\(-modified\)\?\|unknown\)$/&/p' \
    '3s/^compiler  *[A-Za-z]* [0-9.]*$/&/p' '4s/^MPI  *[^ ].*/&/p' '5s/^HDF5  *1\.[0-9]*\.[0-9]*$/&/p' \
    '6s/^oneDNN  *[0-9]*\.[0-9]*\.[0-9]*$/&/p' '7s/^processor  *[a-z].*/&/p' '8s/^kernels  *[a-z][a-z0-9]*$/&/p'; do
    [ -n "$(sed -n "$line" version)" ] || fail "--version: no line like $line: $(cat version)"
done
! grep -q '^flags.* avx2 ' /proc/cpuinfo || grep -q '^processor.* avx2 ' version || fail "--version: no avx2: $(cat version)"
[ "$(CAIRN_CPU=reference "$CAIRN" --version | sed -n 's/^kernels *//p')" = reference ] || fail "--version: other kernels"

# commit_in FOLDER: of the sources in a folder.
commit_in() { sh "$1/.ci/revision" "$1" "$WORK/revision.c" && sed -n 's/.*= "\(.*\)";/\1/p' revision.c; }
git() { command git -c safe.directory='*' -c user.name=test -c user.email=test@localhost "$@"; }
mkdir -p checkout/.ci
cp "$SOURCE/.ci/revision" checkout/.ci
cp "$SOURCE/.gitattributes" checkout
[ "$(commit_in checkout)" = unknown ] || fail "a commit out of nowhere: $(commit_in checkout)"
git -C checkout init -q && git -C checkout add -A && git -C checkout commit -qm first && git -C checkout tag -am v1 v1
commit=$(git -C checkout rev-parse HEAD)
[ "$(commit_in checkout)" = "${commit:0:12}" ] || fail "the commit is not ${commit:0:12}: $(commit_in checkout)"
# An archive, unpacked inside another checkout.
mkdir checkout/archive && git -C checkout archive HEAD | tar -x -C checkout/archive
echo '#' >>checkout/.gitattributes && git -C checkout commit -qam second
[ "$(commit_in checkout/archive)" = "${commit:0:12}" ] || fail "an archive of ${commit:0:12}: $(commit_in checkout/archive)"
echo '#' >>checkout/.gitattributes
[[ $(commit_in checkout) == ????????????-modified ]] || fail "a modified checkout: $(commit_in checkout)"

# -- HDF5 ----------------------------------------------------------------------------------------------------------------

# configure NAME ARGUMENT...: as a user does, who has no cmocka and does not want the build to end at a warning.
configure() { cmake -S "$SOURCE" -B "$WORK/$1" -G Ninja "${@:2}" >"$1.log" 2>&1; }
if command -v h5pcc >/dev/null; then
    configure wrapper -DHDF5_C_COMPILER_EXECUTABLE=h5pcc || fail "HDF5 through h5pcc: $(tail -n 5 wrapper.log)"
    cmake --build wrapper --target CMakeFiles/checkpoint.dir/io/checkpoint/library.c.o >build.log 2>&1 ||
        fail "HDF5 through h5pcc does not compile: $(tail -n 5 build.log)"
    grep -qi 'cmocka' wrapper.log && fail "cmocka is asked for where no tests are built"
    grep -q -- '-Werror' wrapper/build.ninja && fail "warnings end a user's build"
fi
grep -q -- '-Werror' "$BUILD/build.ninja" || grep -q '^CMAKE_C_COMPILER:.*clang' "$BUILD/CMakeCache.txt" ||
    fail "warnings do not end a developer's build"
# One that says of itself that it is serial.
include=$(pkg-config --cflags-only-I hdf5-openmpi | tr ' ' '\n' | sed -n 's/^-I//p' | head -n 1)
library=$(pkg-config --libs-only-L hdf5-openmpi | tr ' ' '\n' | sed -n 's/^-L//p' | head -n 1)
mkdir -p serial/lib && cp -r "$include" serial/include && ln -s "$library"/libhdf5.* serial/lib
sed -i '/define H5_HAVE_PARALLEL /d' serial/include/H5pubconf*.h
HDF5_ROOT=$WORK/serial configure refused && fail "a serial HDF5 is accepted"
tr -s ' \n' ' ' <refused.log | grep -q "The HDF5 1[.0-9]* in $WORK/serial/include is serial: .* Install the parallel one (libhdf5-openmpi-dev" ||
    fail "a serial HDF5: $(tail -n 12 refused.log)"

finish
