#!/usr/bin/env bash
# The board's own entries: run, pack, accept. BUDGET=1000 keeps all arrays in the repository (38 MB).
# WHY='new weights' leaderboard/entries.sh [NAME…]   makes all of them, or those named, again.
# REJUDGE=1 WHY='a metric was mended' leaderboard/entries.sh [NAME…]   judges the stored arrays anew and draws nothing.
# SUITE=tetrapeptides30 BUDGET=10000 leaderboard/entries.sh verse prose md remd reference mode-deleted   those of
# another suite, whose arrays (2.4 GB) stay in RUNS, as those of any SUITE that is named; PROTOCOL=paper@1 by other rules.
# PACK=1 NOTE='…' with the same words packs the run folders that are in RUNS, whatever arrays they still have, and draws nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
BUDGET=${BUDGET:-1000} RUNS=${RUNS:-runs/board} BOARD=${BOARD:-leaderboard} AUTHOR=${AUTHOR:-bgbench authors}
LABEL=${SUITE:+$SUITE-}${PROTOCOL:+${PROTOCOL%@*}-}$BUDGET

entry() { # NAME, options of submit, --, words of run
  local name=$1 said=() folder
  shift
  if [ "${#chosen[@]}" -gt 0 ] && [[ " ${chosen[*]} " != *" $name "* ]]; then return; fi
  while [ "$1" != -- ]; do said+=("$1"); shift; done
  shift
  folder="$RUNS/packed/$name-$LABEL"
  if [ -n "${REJUDGE:-}" ]; then
    rm -rf "${RUNS:?}/$name-$LABEL"
    mkdir -p "$RUNS"
    cp -r "$BOARD/records/$name-$LABEL" "$RUNS/"
    python benchmarks/rejudge.py "$RUNS/$name-$LABEL"
  elif [ -z "${PACK:-}" ]; then
    bgbench run "$@" ${SUITE:+--suite "$SUITE"} ${PROTOCOL:+--protocol "$PROTOCOL"} --budget "$BUDGET" --seeds 3 --tracking-uri none --out "$RUNS/$name-$LABEL" --resume --quiet
  fi
  rm -rf "$folder"
  bgbench leaderboard submit "$RUNS/$name-$LABEL" --to "$RUNS/packed" --name "$name-$LABEL" --author "$AUTHOR" ${SUITE:+--no-arrays} ${NOTE:+--note "$NOTE"} "${said[@]}"
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
