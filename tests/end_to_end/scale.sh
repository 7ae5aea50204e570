#!/bin/bash
# A scaling study of a tiny model: at once, run by run, with failures and without gnuplot.
set -u
. "$(dirname "$0")/library.sh" "$@"

cat >tiny.yaml <<'END'
model: {vocabulary: 64, width: 32, layers: 2, heads: 2, hidden: 48, mlp: gelu}
training: {batch: 4, micro_batch: 1, sequence_length: 16, steps: 100}
END
grid=(tiny.yaml --quick --steps 3 --warmup 1 --set compute.threads=1)

# column FILE NAME: that column of a CSV file whose cells hold no commas and line ends.
column() {
    awk -F, -v name="$2" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) wanted = i; next } { print $wanted }' "$1"
}
rows() { echo $(($(wc -l <"$1/scaling.csv") - 1)); }

# -- All at once ---------------------------------------------------------------------------------------------------------

study=("${grid[@]}" --ranks 1,2 --meshes data,pipeline --repeats 2 --output study --launcher "$MPIRUN -n %n" --peak-gflops 50)
if must "a study" 1 scale "${study[@]}"; then
    [ "$(rows study)" -eq 6 ] || fail "$(rows study) rows instead of 6"
    [ "$(column study/scaling.csv status | sort -u)" = ok ] || fail "not every run is ok"
    [ "$(column study/efficiency.csv repeats | sort -u)" = 2 ] || fail "not two repeats of each"
    [ "$(column study/scaling.csv ranks | sort | uniq -c | tr -s ' ' | tr '\n' ';')" = ' 2 1; 4 2;' ] ||
        fail "the ranks are wrong: $(column study/scaling.csv ranks | tr '\n' ' ')"
    # The parts make up the step (of the mean rank, so not to the digit), and the other columns are what they claim to be.
    paste -d ' ' <(column study/scaling.csv step_p50_s) <(column study/scaling.csv step_p95_s) \
        <(column study/scaling.csv step_max_s) <(column study/scaling.csv compute_s) \
        <(column study/scaling.csv communication_s) <(column study/scaling.csv bubble_s) \
        <(column study/scaling.csv io_s) <(column study/scaling.csv tokens_per_second) <(column study/scaling.csv ranks) |
        awk '$9 == 1 && ($4 + $7 < 0.98 * $1 || $4 + $7 > 1.02 * $1) { wrong = 1 }
             { sum = $4 + $5 + $6 + $7; if (!($1 <= $2 && $2 <= $3 && sum > 0.3 * $1 && sum < 3 * $1)) wrong = 1
               tokens = $1 * $8; if (tokens < 63.99 || tokens > 64.01) wrong = 1 }
             END { exit wrong || NR != 6 }' || fail "the columns of time do not go together"
    paste -d ' ' <(column study/efficiency.csv ranks) <(column study/efficiency.csv step_median_s) \
        <(column study/efficiency.csv efficiency) |
        awk 'NR == 1 { one = $2 } { e = one / ($1 * $2); if (e / $3 < 0.999 || e / $3 > 1.001) wrong = 1 }
             END { exit wrong || NR != 3 }' || fail "the efficiency is not t1 / (N t)"
    paste -d ' ' <(column study/scaling.csv ranks) <(column study/scaling.csv datasheet_gflops) |
        awk '$2 != 50 * $1 { wrong = 1 } END { exit wrong }' || fail "the datasheet's peak is not 50 GFLOP/s a core"
    [ "$(column study/scaling.csv hosts | head -n 1)" = "$(hostname)*1" ] || fail "the hosts are not named"
    grep -q 'pipeline' <(column study/efficiency.csv layout) || fail "no line for the pipeline"
    [ -n "$(column study/scaling.csv version | grep -v '^ *$')" ] || fail "no version"
    grep -q '^    2  .*pipeline ' out || fail "the table was not printed"
    grep -q '^<svg' study/index.html || ! command -v gnuplot >/dev/null || fail "the page has no plots"
    ! grep -qiE '<script|<link|src=|url\(' study/index.html || fail "the page needs more than itself"
fi

# Nothing is measured twice.
if must "a study that is there" 1 scale "${study[@]}"; then
    grep -q '^6 of 6 runs were measured before' err || fail "measured again"
    ! grep -q '^run ' err || fail "measured again"
fi

# -- Run by run ----------------------------------------------------------------------------------------------------------

parts=("${grid[@]}" --ranks 1,2 --meshes tensor --repeats 1 --output parts --launcher "$MPIRUN -n %n")
must "the list" 1 scale "${parts[@]}" --list
[ "$(cut -d ' ' -f 1-6 out)" = "1 strong ranks=1 data=1 pipeline=1 context=1
2 strong ranks=2 data=1 pipeline=1 context=1" ] || fail "the list: $(cat out)"
[ ! -e parts ] || fail "listing leaves files"
# At the same time, as jobs do.
"$CAIRN" scale "${parts[@]}" --run 1 >one 2>&1 &
must "run 2" 1 scale "${parts[@]}" --run 2
wait $! || fail "run 1: $(cat one)"
must "the report" 1 scale --report --output parts
[ "$(rows parts)" -eq 2 ] && [ -s parts/efficiency.csv ] && grep -q '</html>' parts/index.html || fail "no report of the parts"
run 1 scale "${parts[@]}" --run 3
[ "$status" -eq 2 ] && grep -q 'the grid has 2 runs' err || fail "a run that is not there: $(last_words)"

# -- What goes wrong -----------------------------------------------------------------------------------------------------

# A launcher that starts one rank well, and more not at all.
cat >launcher <<'END'
#!/bin/sh
[ "$1" -eq 1 ] || { echo 'cairn: no ranks, "today"' >&2; exit 7; }
shift
exec "$@"
END
chmod +x launcher
broken=("${grid[@]}" --ranks 1,2 --meshes data --repeats 1 --output broken --launcher "./launcher %n")
if must "a study with failures" 1 scale "${broken[@]}"; then
    [ "$(column broken/scaling.csv status | tr '\n' ' ')" = "ok failed " ] || fail "the failure is no row"
    grep -q '"exit status 7: no ranks, ""today"""' broken/scaling.csv || fail "the row does not say why"
    grep -q 'exit status 7: no ranks, &quot;today&quot;' broken/index.html || fail "the page does not say why"
fi
rm -r broken/plots broken/efficiency.csv
if PATH=/nowhere "$CAIRN" scale --report --output broken >out 2>err; then
    grep -q '^gnuplot is not installed.*apt install gnuplot-nox' err || fail "nothing about the missing gnuplot"
    [ -s broken/plots/strong-time.gnuplot ] && [ ! -e broken/plots/strong-time.svg ] && [ -s broken/efficiency.csv ] &&
        grep -q 'gnuplot is not installed' broken/index.html || fail "without gnuplot something else is missing"
else
    fail "without gnuplot: $(cat err)"
fi
run 2 scale "${parts[@]}"
[ "$status" -eq 2 ] && grep -q 'without mpirun' err || fail "inside of mpirun: $(last_words)"
run 1 scale tiny.yaml --list --ranks 3 --meshes tensor
[ "$status" -eq 2 ] && grep -q '^skipped: strong, 3 ranks, tensor: mesh.tensor' err || fail "no grid: $(last_words)"
run 1 scale --report --output nowhere
[ "$status" -eq 1 ] && grep -q 'nowhere/runs' err || fail "a report of nothing: $(last_words)"

finish
