#!/usr/bin/env bash
# Trains a recipe: one small model with one kind of attention after the other, on the same data for
# the same steps, and prints how well each predicts what was held out, as a table in Markdown.
# What is trained already is not trained again, and a run that was stopped goes on.
set -euo pipefail
shopt -s inherit_errexit

usage() {
  cat << END
usage: launch/recipes.sh RECIPE [options]

recipes
  copy             words of ten symbols, to be said again (made by launch/recipes/copy_task.py)
  proteins         proteins, the next letter
  proteins_masked  proteins, masked letters from both sides
  concatenated     windows of 8,192 letters over proteins one after the other, on 2 ranks
  books            bytes of books in the layout of PG-19, which --data names
  switch           softmax on proteins, which favor_softmax then takes over

options
  --kinds "A B"    only these kinds of attention, as in model.attention.kind
  --steps N        of training (default: training.max_steps of launch/configs/RECIPE.textproto)
  --ranks N        processes (default 1; concatenated 2)
  --threads N      threads a process (default 0: its share of the cores)
  --data PATH      FASTA, or for books a folder (default: proteins of the package mmseqs2-examples)
  --folder FOLDER  where stores and runs are kept (default runs/recipes)
END
}

fail() {
  echo "recipes.sh: $2" >&2
  exit "$1"
}

longscan=build/release/bin/longscan
if [ -n "${LONGSCAN:-}" ]; then longscan=$(realpath -ms -- "$LONGSCAN"); fi
copy_task=launch/recipes/copy_task.py

# -- What is asked for ---------------------------------------------------------------------------

case "${1:-}" in
  -h | --help) usage && exit 0 ;;
  copy | proteins | proteins_masked | concatenated | books | switch) recipe=$1 ;;
  "") usage >&2 && exit 64 ;;
  *) fail 64 "there is no recipe '$1'; --help names them" ;;
esac
shift

causal_kinds="identity elu1 relu favor_relu favor_softmax favor_hyperbolic softmax"
kinds=$causal_kinds
ranks=1
data=/usr/share/doc/mmseqs2/example-data/DB.fasta.gz
case $recipe in
  copy) data="" ;;
  proteins_masked) kinds="$causal_kinds linformer" ;;
  concatenated) kinds="elu1 favor_relu" ranks=2 ;;
  books) kinds="elu1 favor_relu" data="" ;;
  switch) kinds="softmax favor_softmax" ;;
esac
case $recipe in
  concatenated | books) known_kinds=${causal_kinds% softmax} ;; # they have segments
  *) known_kinds=$kinds ;;
esac
steps=""
threads=0
folder=""

while [ $# -gt 0 ]; do
  case $1 in
    --*=*)
      set -- "${1%%=*}" "${1#*=}" "${@:2}"
      continue
      ;;
    --kinds | --steps | --ranks | --threads | --data | --folder) ;;
    -h | --help) usage && exit 0 ;;
    *) fail 64 "'$1' is not known here; --help tells the options" ;;
  esac
  [ -n "${2:-}" ] || fail 64 "$1 needs a value"
  case $1 in
    --steps | --ranks | --threads)
      [[ $2 =~ ^[0-9]{1,9}$ ]] || fail 64 "$1 needs a number, not '$2'"
      printf -v "${1#--}" '%d' "$((10#$2))"
      ;;
    --kinds) kinds=$2 ;;
    --data | --folder) printf -v "${1#--}" '%s' "$(realpath -ms -- "$2")" ;;
  esac
  shift 2
done

read -r -a kinds <<< "$kinds"
[ ${#kinds[@]} -gt 0 ] || fail 64 "--kinds needs a kind"
for kind in "${kinds[@]}"; do
  [[ " $known_kinds " == *" $kind "* ]] ||
    fail 64 "$recipe has no kind '$kind', only: $known_kinds"
done
[ "$ranks" -ge 1 ] || fail 64 "--ranks needs at least 1"
if [ "$recipe" = copy ] && [ -n "$data" ]; then
  fail 64 "copy makes its own data, without --data"
fi
if [ "$recipe" = switch ] && [ "${kinds[*]}" != "$known_kinds" ]; then
  fail 64 "switch is from softmax to favor_softmax, without --kinds"
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
config=launch/configs/$recipe.textproto
steps=${steps:-$(grep -o 'max_steps: [0-9]*' "$config" | grep -o '[0-9]*$')}
[ "$steps" -ge 1 ] || fail 64 "--steps needs at least 1"
folder=${folder:-runs/recipes}
[ -x "$longscan" ] ||
  fail 66 "$longscan is missing: cmake --preset release && cmake --build --preset release"
if [ "$recipe" = books ] && [ -z "$data" ]; then
  fail 66 "books needs --data: a folder with train/*.txt, validation/*.txt and metadata.csv"
fi
if [ -n "$data" ] && [ ! -e "$data" ]; then
  fail 66 "$data is missing (launch/install_packages.sh installs the proteins)"
fi

# -- Data, training, evaluation -------------------------------------------------------------------

# Other data of the same name, other steps and another number of ranks are other runs.
corpus=$(basename "${data:-copy}")
corpus=${corpus%%.*}
if [ -n "$data" ]; then corpus+=-$(realpath "$data" | cksum | cut -d ' ' -f 1); fi
store=$folder/$corpus.h5
runs=$folder/$corpus/$recipe-$steps-steps-$ranks-ranks
if [ -e "$runs/recipe.textproto" ] && ! cmp -s "$config" "$runs/recipe.textproto"; then
  fail 64 "$config has changed since $runs was trained: remove that folder, or name another --folder"
fi

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
if [ "$(nproc)" -lt "$ranks" ]; then export OMPI_MCA_mpi_yield_when_idle=1; fi
on_ranks=()
if [ "$ranks" -gt 1 ]; then on_ranks=(mpirun --bind-to none -n "$ranks"); fi

pack() {
  [ ! -e "$store" ] || return 0
  mkdir -p "$folder"
  if [ "$recipe" = copy ]; then
    "$copy_task" make --records=100000 --seed=1 | "$longscan" pack - --format=fasta --out "$store"
  else
    "$longscan" pack "$data" --out "$store"
  fi
}

# What a kind needs to find 63 places back, into `own`: KIND. An exponential of rotated queries and
# keys picks out a distance. The other kinds are too blunt for that and learn a feature a place.
own_options() {
  own=()
  case $recipe-$1 in
    copy-softmax | copy-favor_softmax | copy-favor_hyperbolic)
      own=(--set model.positions=rotary)
      ;;
  esac
}

# train RUN STEPS KIND [OPTIONS...]
train() {
  local run=$runs/$1 last=$2 kind=$3 own
  shift 3
  own_options "$kind"
  if [ "$(cat "$run/latest" 2> /dev/null)" = "$(printf 'step-%08d.h5' "$last")" ]; then return 0; fi
  printf '\n== %s\n' "$run"
  "${on_ranks[@]}" "$longscan" train --config "$config" --data "$store" --run "$run" \
    --max-steps "$last" --threads "$threads" --set "model.attention.kind=$kind" "${own[@]}" "$@"
}

# What `longscan eval` says about a run, once: RUN
evaluate() {
  local found=$runs/$1/evaluation.txt
  if [ ! -e "$found" ] || [ "$runs/$1/latest" -nt "$found" ]; then
    "${on_ranks[@]}" "$longscan" eval --checkpoint "$runs/$1" --data "$store" \
      --threads "$threads" > "$found.new"
    mv "$found.new" "$found"
  fi
  cat "$found"
}

# The number behind a label: LABEL, on standard input what `longscan eval` says
number() {
  awk -v label="$1" 'index($0, label "  ") == 1 {
    $0 = substr($0, length(label) + 1); gsub(/,/, ""); print $1 }'
}

# Seconds of its steps: RUN
seconds_of() {
  sed -nE 's/^\{"step": ([0-9]+),.*"milliseconds_per_step": ([^,]+),.*/\1 \2/p' \
    "$runs/$1/metrics.jsonl" | awk '{ sum += ($1 - last) * $2 / 1e3; last = $1 }
                                    END { printf "%.0f\n", sum }'
}

# -- The table ------------------------------------------------------------------------------------

# Of what only the recipe has, for a row: RUN, on standard input what `longscan eval` says
extra_columns() {
  case $recipe in
    copy)
      rm -f "$runs/$1/copies.fasta"
      "$copy_task" prompts --records=20 --seed=2 | while read -r prompt; do
        "$longscan" generate --checkpoint "$runs/$1" --prompt "$prompt" --temperature 0 \
          --max-tokens 62 --threads 1 < /dev/null >> "$runs/$1/copies.fasta"
      done
      echo " $("$copy_task" check "$runs/$1/copies.fasta") % |"
      ;;
    books)
      local found words
      found=$(cat)
      words=$(cat "$data"/validation/*.txt | wc -w)
      awk -v bits="$(number "bits per byte" <<< "$found")" \
        -v nats="$(number loss <<< "$found")" -v tokens="$(number tokens <<< "$found")" \
        -v words="$words" 'BEGIN { printf " %s | %.0f |\n", bits, exp(nats * tokens / words) }'
      ;;
  esac
}

# row NAME RUN STEPS
row() {
  local found extra
  found=$(evaluate "$2")
  extra=$(extra_columns "$2" <<< "$found")
  baseline=$(number "unigram baseline" <<< "$found")
  rows+=("| $1 | $3 | $(number loss <<< "$found") | $(number perplexity <<< "$found") |\
 $(number accuracy <<< "$found") % | $(seconds_of "$2") |$extra")
}

# What the parameters of softmax gave favor_softmax before it had learned anything: RUN
row_before_learning() {
  local value=': ([^,]+), ' found
  found=$(sed -nE "/^\{\"step\": 0,/{
    s/.*\"validation_loss\"$value\"validation_perplexity\"$value\"validation_accuracy\"$value.*/\1 \2 \3/p
    q
  }" "$runs/$1/metrics.jsonl")
  rows+=("$(awk '{ printf "| favor_softmax, right after the switch | 0 | %.4f | %.4f | %.2f %% | 0 |",
                          $1, $2, 100 * $3 }' <<< "$found")")
}

print_table() {
  local head="| attention | steps | loss | perplexity | accuracy | s |" line="|---|---|---|---|---|---|"
  local nats empty=""
  nats=$(awk -v p="$baseline" 'BEGIN { printf "%.4f", log(p) }')
  case $recipe in
    copy) head+=" copied |" line+="---|" empty=" |" ;;
    books) head+=" bits per byte | perplexity a word |" line+="---|---|" empty=" | |" ;;
  esac
  printf '\n== %s: validation split of %s\n\n%s\n%s\n' "$recipe" "$store" "$head" "$line"
  printf '%s\n' "${rows[@]}"
  echo "| unigram baseline | | $nats | $baseline | | |$empty"
  if [ "$recipe" = copy ]; then
    printf '\nat best: %s\n' "$("$copy_task" best | paste -s -d ' ')"
  fi
}

rows=()
pack
mkdir -p "$runs"
cp "$config" "$runs/recipe.textproto"
if [ "$recipe" = switch ]; then
  tuned=$(((steps + 3) / 4))
  train softmax "$steps" softmax
  train switched "$tuned" favor_softmax --init-from="$runs/softmax" --eval-every "$tuned"
  train scratch "$tuned" favor_softmax
  train scratch-longer "$((steps + tuned))" favor_softmax
  row softmax softmax "$steps"
  row_before_learning switched
  row "favor_softmax, switched and fine-tuned" switched "$tuned"
  row "favor_softmax from scratch" scratch "$tuned"
  row "favor_softmax from scratch" scratch-longer "$((steps + tuned))"
else
  for kind in "${kinds[@]}"; do train "$kind" "$steps" "$kind"; done
  for kind in "${kinds[@]}"; do
    own_options "$kind"
    row "$kind${own:+ (rotary positions)}" "$kind" "$steps"
  done
fi
print_table
