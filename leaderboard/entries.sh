#!/usr/bin/env bash
# The board's own entries: run, pack, accept. BUDGET=1000 keeps all arrays in the repository (38 MB).
# WHY='new weights' leaderboard/entries.sh [NAME…]   makes all of them, or those named, again.
set -euo pipefail
cd "$(dirname "$0")/.."
BUDGET=${BUDGET:-1000} RUNS=${RUNS:-runs/board} BOARD=${BOARD:-leaderboard} AUTHOR=${AUTHOR:-bgbench authors}

entry() { # NAME, options of submit, --, words of run
  local name=$1 said=() folder
  shift
  if [ "${#chosen[@]}" -gt 0 ] && [[ " ${chosen[*]} " != *" $name "* ]]; then return; fi
  while [ "$1" != -- ]; do said+=("$1"); shift; done
  shift
  folder="$RUNS/packed/$name-$BUDGET"
  bgbench run "$@" --budget "$BUDGET" --seeds 3 --tracking-uri none --out "$RUNS/$name-$BUDGET" --resume --quiet
  rm -rf "$folder"
  bgbench leaderboard submit "$RUNS/$name-$BUDGET" --to "$RUNS/packed" --name "$name-$BUDGET" --author "$AUTHOR" "${said[@]}"
  bgbench leaderboard accept "$folder" --board "$BOARD" ${WHY:+--why "$WHY"}
}

chosen=("$@")
entry verse -- verse
entry prose -- prose
entry tbg -- tbg
entry md -- md
entry remd -- remd
entry reference --control -- reference
entry mode-deleted --control -- reference --set variant=mode-deleted
entry prior --control -- prior
