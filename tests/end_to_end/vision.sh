#!/bin/bash
# vision.sh SOURCE BUILD: a Vision Transformer learns four kinds of tiny images, is evaluated and asked, goes on in the
# middle of an epoch bit for bit, and computes the same on other meshes. CTest sets the environment that MPI needs.
set -euo pipefail
cairn=$2/cairn
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
fail() { echo "$1" >&2 && exit 1; }

# CIFAR-10's binary form: a label byte, then 32 x 32 bytes of red, green and blue. Of classes 0 to 2 one of the colours
# is bright, of class 3 all are, by an amount that differs from image to image.
bytes() { # COUNT OCTAL
    head -c "$1" /dev/zero | tr '\0' "\\$2"
}
write() { # FILE COUNT FIRST
    local i plane k
    for ((i = $3; i < $3 + $2; i++)); do
        k=$((i * 7 % 4))
        printf "\\$(printf %o $k)"
        for plane in 0 1 2; do
            if [ $k -eq $plane ] || [ $k -eq 3 ]; then
                bytes 1024 "$(printf %03o $((120 + (i * 37 + plane * 11) % 100)))"
            else
                bytes 1024 020
            fi
        done
    done >"$1"
}
write train.bin 50 0
write test.bin 22 1000

cat >vit.yaml <<'END'
model:
  {family: vit, image: {size: 32, patch: 8, classes: 10}, width: 24, layers: 2, heads: 3, hidden: 40}
data:
  train: [train.bin]
  validation: [test.bin]
  augment: {crop: padding, crop_padding: 2, flip: random, mixup: 0.2}
optimizer: {learning_rate: 4.0e-3, warmup_steps: 5, weight_decay: 0.05}
training: {steps: 40, batch: 20, micro_batch: 10, label_smoothing: 0.05, average: 0.8}
evaluation: {every: 20}
checkpoint: {every: 13, keep_last: 9}
run: {folder: whole}
END

"$cairn" train vit.yaml 2>log || { cat log && fail "training failed"; }
grep -q '50 images of 32 x 32 in 10 classes to train on; batch 20 x 17 tokens' log ||
    fail "the run does not say what it trains on: $(cat log)"
grep -Eq '^step 40: held-out loss [0-9.]+ nats an image, 100.00 % right, 100.00 % among the first five, of 22 images$' log ||
    fail "the four kinds of images are not learned: $(tail -n 3 log)"
grep -q '"validation_accuracy":1.0' whole/metrics.jsonl || fail "metrics lack the accuracy"
grep -q '"images_per_second":' whole/metrics.jsonl && grep -q '"data_wait_seconds":' whole/metrics.jsonl ||
    fail "metrics lack the speed"

# The page says how often it is right and what it takes for what.
[ "$(head -n 1 whole/confusion.csv | tr -d '\r')" = "label,airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck" ] ||
    fail "confusion.csv begins with $(head -n 1 whole/confusion.csv)"
[ "$(sed -n '2,6s/[^,]*,//p' whole/confusion.csv | tr -d '\r' | paste -sd /)" = \
    "6,0,0,0,0,0,0,0,0,0/0,5,0,0,0,0,0,0,0,0/0,0,5,0,0,0,0,0,0,0/0,0,0,6,0,0,0,0,0,0/0,0,0,0,0,0,0,0,0,0" ] ||
    fail "confusion.csv: $(cat whole/confusion.csv)"
"$cairn" report whole >out 2>err
awk 'NR == 1 && /right %/ { head = 1 } NR == 2 && / 100.00 / { right = 1 } END { exit !(head && right) }' out ||
    fail "the report does not say how often it is right: $(cat out)"
grep -q '<h2>What whole takes for what</h2>' whole/report/index.html || fail "the page lacks the confusion"

# Evaluated by itself, on one rank and on three, it says the same.
"$cairn" eval vit.yaml --json 2>err >one
mpirun -n 3 "$cairn" eval vit.yaml --json 2>err >three
for file in one three; do
    grep -q '"accuracy": 1.0, "accuracy5": 1.0, "images": 22, "bad": 0' $file || fail "eval says $(cat $file)"
done
loss() { sed 's/.*"loss": \([0-9.]*\).*/\1/' "$1"; }
awk -v a="$(loss one)" -v b="$(loss three)" 'BEGIN { exit !(a > 0 && (a - b) ^ 2 < 1e-10) }' ||
    fail "losses differ: $(cat one three)"

# It computes with the averages of the parameters, as the run does when it evaluates; without them it says something else.
[ "$(printf %.4f "$(loss one)")" = "$(sed -n 's/^step 40: held-out loss \([0-9.]*\).*/\1/p' log)" ] ||
    fail "eval says $(cat one), the run $(tail -n 1 log)"
"$cairn" eval vit.yaml --json --set training.average=0 2>err >last
awk -v a="$(loss one)" -v b="$(loss last)" 'BEGIN { exit !((a - b) ^ 2 > 1e-8) }' || fail "averages change nothing: $(cat one last)"

# A file with an image of each class is an image itself.
"$cairn" data images test.bin --sheet sheet.png >sheet.txt
"$cairn" predict whole sheet.png --top 3 >out 2>err || fail "predict fails: $(cat err)"
[ "$(head -n 1 out)" = sheet.png ] && [ "$(grep -c ' %  ' out)" -eq 3 ] || fail "predict says $(cat out)"
"$cairn" predict whole sheet.png --top 10 --json 2>err >json
tr ',}' '\n\n' <json | awk '/"probability":/ { sum += $NF; n++ } END { exit !(n == 10 && (sum - 1) ^ 2 < 1e-10) }' ||
    fail "the probabilities of all classes do not make one: $(cat json)"
! "$cairn" predict whole vit.yaml 2>err || fail "a text is taken for an image"
grep -q '^cairn: vit.yaml: is text, neither PNG nor JPEG' err || fail "predict says $(cat err)"
! "$cairn" generate --checkpoint whole --prompt x 2>err || fail "a classifier continues a text"
grep -q 'this model is of images' err || fail "generate says $(cat err)"

# Stopped at step 17, in the middle of the seventh epoch, and started again, evaluated more often and saved behind the
# training: the same bits.
often=(--set run.folder=parts --set evaluation.every=6 --set checkpoint.background=true)
"$cairn" train vit.yaml "${often[@]}" --set training.stop_at=17 2>log
"$cairn" train vit.yaml "${often[@]}" 2>log
last=checkpoints/step-00000040.h5
"$cairn" checkpoint diff whole/$last parts/$last | grep -q '^identical: ' || fail "going on changes the run"

# Other meshes, with ranks of one head and of two, compute the same; so does one that takes over in the middle.
mesh() { # FOLDER RANKS SETTING...
    local name=$1 ranks=$2 settings=()
    shift 2
    for setting; do settings+=(--set "$setting"); done
    mpirun -n "$ranks" "$cairn" train vit.yaml "${settings[@]}" --set "run.folder=$name" 2>log ||
        { cat log && fail "$name fails"; }
    # A bias of keys shifts all scores of a query alike: its gradient is nothing but rounding, which AdamW blows up.
    "$cairn" checkpoint diff whole/$last "$name/$last" --tolerance 2e-3 >out || true
    ! grep ': differs by' out | grep -v 'k_proj\.bias' || fail "$name trains another model"
    grep -Eq '^[0-8] of 160 ' out || fail "$name trains another model: $(cat out)"
}
mesh data2tensor2 4 mesh.data=2 mesh.tensor=2
mesh pipeline2 2 mesh.pipeline=2 mesh.data=1
cp -r parts turned
rm turned/checkpoints/step-000000[34]*
echo step-00000026.h5 >turned/checkpoints/latest
mesh turned 3 mesh.data=3

# What does not fit is told with what would.
! mpirun -n 2 "$cairn" train vit.yaml --set mesh.context=2 --set mesh.data=1 --set run.folder=cut 2>err || fail "images are cut"
grep -q '^cairn: mesh.context: the tokens of an image are not divided' err || fail "mesh.context=2 says $(cat err)"
! "$cairn" train vit.yaml --set model.image.classes=3 --set run.folder=few 2>err || fail "labels without a class are taken"
grep -q '^cairn: train.bin: images of 10 classes, but model.image.classes is 3' err || fail "too few classes say $(cat err)"

# The average after three steps, from the parameters of each: it keeps 2/11, 3/12 and 4/13 of what it was.
"$cairn" train vit.yaml --set run.folder=steps --set training.steps=3 --set optimizer.warmup_steps=0 --set checkpoint.every=1 \
    --set training.average=0.9999 2>log
number() { h5dump -d "$1" -s 0 -c 1 -y -m %.9g "${3:-steps}/checkpoints/step-0000000$2.h5" | awk '/DATA {/ { getline; print $1 }'; }
bias=classifier.bias
awk -v a="$(number /optimizer/average/$bias 3)" -v p="$(number /parameters/$bias 1)" -v q="$(number /parameters/$bias 2)" \
    -v r="$(number /parameters/$bias 3)" 'BEGIN {
        wanted = 9 / 11 * p; wanted = wanted * 3 / 12 + 9 / 12 * q; wanted = wanted * 4 / 13 + 9 / 13 * r
        exit !(a != 0 && (a - wanted) ^ 2 < 1e-10 * a ^ 2) }' || fail "the average of $bias is wrong"
# In a run that had none it begins with the parameters that are there, of which it keeps 5/14 in the fourth step.
late=(--set run.folder=late --set optimizer.warmup_steps=0 --set checkpoint.every=1)
"$cairn" train vit.yaml "${late[@]}" --set training.steps=3 --set training.average=0 2>log
"$cairn" train vit.yaml "${late[@]}" --set training.steps=4 --set training.average=0.9999 --accept-changes 2>log ||
    fail "averages cannot begin late: $(tail -n 1 log)"
weight=model.norm.weight # which began as 1
awk -v a="$(number /optimizer/average/$weight 4 late)" -v p="$(number /parameters/$weight 3 late)" \
    -v q="$(number /parameters/$weight 4 late)" 'BEGIN {
        wanted = 5 / 14 * p + 9 / 14 * q
        exit !(p != 1 && (a - wanted) ^ 2 < 1e-13) }' || fail "the average of $weight that begins late is wrong"

# A folder of files, whose headers the first rank alone reads: three ranks of which one needs only labels train the same.
for class in red green; do
    mkdir -p files/$class
    for i in 1 2 3; do cp sheet.png files/$class/$i.png; done
done
files=(--set 'data.train=[files]' --set 'data.validation=[files]' --set training.steps=4 --set training.batch=5
    --set training.micro_batch=2 --set evaluation.every=4 --set optimizer.warmup_steps=0)
"$cairn" train vit.yaml "${files[@]}" --set run.folder=files1 2>log || fail "a folder is not read: $(cat log)"
grep -q '6 images of .* in 2 classes' log || fail "a folder says $(cat log)"
mpirun -n 2 "$cairn" train vit.yaml "${files[@]}" --set mesh.pipeline=2 --set mesh.data=1 --set run.folder=files2 2>log ||
    fail "a folder is not read by two ranks: $(cat log)"
losses() { grep -o '"loss":[0-9.]*\|"validation_loss":[0-9.]*' "$1/metrics.jsonl"; }
paste <(losses files1) <(losses files2) | tr ':' ' ' | awk 'NF != 4 || ($2 - $4) ^ 2 > 1e-8 { bad = 1 } END { exit bad || NR != 5 }' ||
    fail "two ranks train another model on a folder: $(losses files1) $(losses files2)"

# A residual network, whose running statistics change in every pass while copies of parameters are compared: two ranks
# that share each batch compute what one does, and going on changes nothing. Steps are small: planes of one colour have
# channels without any variance, and rounding would soon grow.
cat >resnet.yaml <<'CONFIG'
model: {family: resnet, width: 4, extra_blocks: 1, image: {size: 32, classes: 10}}
data: {train: [train.bin], validation: [test.bin], augment: {flip: random}}
optimizer: {kind: sgd, learning_rate: 0.001, clip: 0.0}
training: {steps: 6, batch: 10, micro_batch: 10}
watch: {compare_every: 1}
run: {folder: resnet}
CONFIG
"$cairn" train resnet.yaml 2>log || fail "a residual network does not train: $(cat log)"
last=checkpoints/step-00000006.h5
mpirun -n 2 "$cairn" train resnet.yaml --set mesh.data=2 --set run.folder=resnet2 2>log || fail "nor on two ranks: $(cat log)"
"$cairn" checkpoint diff resnet/$last resnet2/$last --tolerance 1e-3 >out || fail "two ranks train another network: $(cat out)"
"$cairn" train resnet.yaml --set run.folder=resnet3 --set training.stop_at=3 2>log
"$cairn" train resnet.yaml --set run.folder=resnet3 2>log
"$cairn" checkpoint diff resnet/$last resnet3/$last | grep -q '^identical: ' || fail "going on changes a residual network"
rm resnet3/checkpoints/step-000000[0]6.h5
echo step-00000003.h5 >resnet3/checkpoints/latest
mpirun -n 2 "$cairn" train resnet.yaml --set mesh.data=2 --set run.folder=resnet3 2>log || fail "two ranks do not take over: $(cat log)"
grep -q 'step 3' log || fail "two ranks begin anew: $(cat log)"
"$cairn" checkpoint diff resnet/$last resnet3/$last --tolerance 1e-3 >out || fail "two ranks take over another network: $(cat out)"
! mpirun -n 2 "$cairn" train resnet.yaml --set mesh.tensor=2 --set mesh.data=1 --set run.folder=cut 2>err || fail "a residual network is cut"
grep -q '^cairn: mesh' err || fail "a residual network cut says $(cat err)"

# To the form of torchvision and back, of a width that is not the usual one: the same numbers.
"$cairn" export resnet exported 2>err && "$cairn" import exported back >out 2>err || fail "a residual network does not come back: $(cat err)"
"$cairn" checkpoint diff resnet back >out.txt || true
! grep -E '^/(parameters|buffers)/.*: differs' out.txt | grep -v num_batches_tracked || fail "it comes back as another: $(cat out.txt)"
[ -s out.txt ] || fail "nothing was compared"

# Without its normalisation the usual one is taken, with a word.
rm -r back && sed -i 's/"pretrained_cfg"/"other"/' exported/config.json
"$cairn" import exported back >out 2>err || fail "without pretrained_cfg it is not read: $(cat err)"
grep -q 'exported/config.json: says no pretrained_cfg with mean and std of images; those of ImageNet are taken' err ||
    fail "the normalisation is taken without a word: $(cat err)"
"$cairn" predict back sheet.png >out 2>err || fail "what was imported predicts nothing: $(cat err)"
