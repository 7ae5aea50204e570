#!/bin/bash
# Planning counts a model that is never made, and says what is missing.
set -u
. "$(dirname "$0")/library.sh" "$@"

# equal OBJECT KEY NUMBER: what an object of the JSON output says.
equal() {
    local value
    value=$(grep -o '"'"$1"'": {[^{}]*}' out | grep -o '"'"$2"'": [-0-9]*' | sed 's/.*: //')
    [ "$value" = "$3" ] || fail "$1, $2: $value instead of $3"
}

cat >base.yaml <<'YAML'
model: {vocabulary: 49152, width: 960, layers: 32, heads: 15, kv_heads: 5, head_width: 64, hidden: 2560,
        tied_embeddings: true}
YAML
layer=$((2 * 960 * 960 + 2 * 960 * 320 + 3 * 960 * 2560 + 2 * 960))
table=$((49152 * 960))

if must "a plain model" 1 plan base.yaml --parameters --json; then
    equal stored all $((table + 32 * layer + 960))
    equal unrolled all $((table + 32 * layer + 960))
    grep -q '"changes": {}' out || fail "a plain model differs from itself"
fi
if must "a recursive model" 2 plan base.yaml --parameters --json --set model.depth.kind=mor \
    --set model.residual.kind=laurel --set model.residual.rank=4; then
    [ "$(wc -l <out)" -eq 1 ] || fail "two ranks print $(wc -l <out) lines"
    equal stored without_table_and_head $((12 * (layer + 2 * 2 * 4 * 960) + 960 + 3 * 960))
    equal unrolled residual $((32 * 2 * 2 * 4 * 960))
    equal shared_layers parameters $((-20 * layer))
    grep -q '"changes": .*"routers": {"parameters": 2880, ' out || fail "no routers among the changes"
fi
must "a table" 1 plan base.yaml --parameters && { grep -q '^embeddings  *'$table' ' out || fail "no embeddings in the table"; }
# Far more than this machine could hold.
must "a model of a trillion" 1 plan base.yaml --parameters --set model.width=163840 --set model.hidden=655360

for arguments in "base.yaml" "--parameters" "base.yaml --parameters --nothing" "missing.yaml --parameters" \
    "base.yaml --parameters --set model.family=vit"; do
    # shellcheck disable=SC2086
    run 1 plan $arguments
    [ "$status" -ne 0 ] && grep -q '^cairn: ' err || fail "plan $arguments: $(last_words)"
done

finish
