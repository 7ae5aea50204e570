#!/bin/bash
# Makes five tasks out of Fashion-MNIST: tops, shoes, the rest, all of it turned by a quarter, all of it with shuffled
# pixels.
#
#   fashion_tasks.sh SOURCE FOLDER [TRAIN [TEST]]
#
# SOURCE holds the four files of the data set. Writes TRAIN (4000) images to train on, a quarter as many to validate and
# TEST (1000) to test of each task, and FOLDER/tasks.yaml; what is there already stays.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
source=$1 folder=$2 train=${3:-4000} test=${4:-1000}
cut=$(dirname "$0")/cut_images.sh
mkdir -p "$folder"
[ ! -s "$folder/tasks.yaml" ] || exit 0
while read -r name classes turns shuffle; do
    "$cut" "$source/train-images-idx3-ubyte.gz" "$folder/$name-train" "$classes" 0 "$train" "$turns" "$shuffle"
    "$cut" "$source/train-images-idx3-ubyte.gz" "$folder/$name-validation" "$classes" "$train" $((train / 4)) "$turns" "$shuffle"
    "$cut" "$source/t10k-images-idx3-ubyte.gz" "$folder/$name-test" "$classes" 0 "$test" "$turns" "$shuffle"
    echo "- {name: $name, train: $folder/$name-train-images-idx3-ubyte," \
        "validation: $folder/$name-validation-images-idx3-ubyte, test: $folder/$name-test-images-idx3-ubyte}"
done >"$folder/tasks.$$" <<'END'
tops 0,2,4,6 0 0
shoes 5,7,9 0 0
rest 1,3,8 0 0
turned all 1 0
shuffled all 0 7
END
mv "$folder/tasks.$$" "$folder/tasks.yaml"
