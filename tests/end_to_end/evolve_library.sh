# What tests of `cairn evolve` share; sourced in a folder of their own, with cairn and slowness set.

# set NAME SEED COUNT: images of 8 x 8, of four classes: a quarter of each patch is bright.
set_of() {
    LC_ALL=C awk -v seed="$2" -v count="$3" -v name="$1" '
        function big(n) { return sprintf("\\0\\0\\%o\\%o", int(n / 256), n % 256) }
        BEGIN {
            srand(seed)
            images = "\\0\\0\\10\\3" big(count) big(8) big(8)
            labels = "\\0\\0\\10\\1" big(count)
            for (i = 0; i < count; i++) {
                class = int(4 * rand())
                labels = labels sprintf("\\%o", class)
                for (p = 0; p < 64; p++) {
                    quarter = 2 * (p % 32 >= 16) + (p % 4 >= 2)
                    images = images sprintf("\\%o", int(60 * rand()) + 180 * (quarter == (class + seed) % 4))
                }
            }
            print images > (name "-images")
            print labels > (name "-labels")
        }'
    for part in images labels; do
        printf "$(cat "$1-$part")" >"$1-$part-idx$([ "$part" = images ] && echo 3 || echo 1)-ubyte"
        rm "$1-$part"
    done
}
task() {
    printf -- '- {name: %s, train: ../%s-train-images-idx3-ubyte, validation: ../%s-validation-images-idx3-ubyte, ' "$1" "$1" "$1"
    printf 'test: %s-test-images-idx3-ubyte%s}\n' "$2$1" "${3:-}"
}
# Four tasks: a, b, c, d.
make_sets() {
    local number=0 name
    for name in a b c d; do
        number=$((number + 1))
        set_of $name-train $((10 * number)) 640
        set_of $name-validation $((10 * number + 4)) 64
        set_of $name-test $((10 * number + 8)) 64
    done
}
evolve() { # FOLDER RANKS arguments...
    mkdir -p "$1"
    (cd "$1" && timeout $((60 * slowness)) mpirun -n "$2" "$cairn" evolve "${@:3}") >"$1.log" 2>&1
}
# The same files, but for what tells of time.
same() {
    diff -r -x metrics.jsonl -x '.lock.*' -x report "$1" "$2"
}
