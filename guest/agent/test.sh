#!/bin/sh
# Test the agent on this machine: test.sh [ROUNDS]. ROUNDS is how long the parser meets random text.
set -eu
cd "$(dirname "$0")"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
gcc -std=gnu11 -O1 -g -Wall -Wextra -Werror -fsanitize=address,undefined -fno-sanitize-recover=all \
    -o "$folder/parser" test/parser.c json.c buf.c
"$folder/parser" "${1:-1000000}" "${BRAID_SEED:-1}"
exec "${NODE:-node}" --test agent.test.ts
