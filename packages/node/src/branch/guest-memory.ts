/**
 * Memory of a guest's processes, by way of the agent and /proc/PID/mem. The kernel is asked, and not its page tables read from outside: only
 * the kernel knows which page belongs there when none is mapped, and gives a process a page of its own before it is written. The price
 * is that the guest runs for that; a process is stopped meanwhile when it is written.
 */

import { integer, oneOf, optional, record, type Schema } from '@braid/core/check/schema.ts';
import { U64 } from '../check.ts';
import { BraidError } from '../errors.ts';
import type { Machine } from '../machine.ts';
import type { WaitOptions } from '../pool/link.ts';

/** A range of a process's memory. */
export interface MemoryRange {
  readonly pid: number;
  readonly address: bigint;
  /** Bytes; 16 MiB at most. */
  readonly length: number;
  /** What is taken or kept as a whole: 1, 2, 4 or 8 bytes at a multiple of that; 8 by default. */
  readonly unit?: 1 | 2 | 4 | 8;
}

export interface MemoryContent {
  /** When the process was started: another one may have the same number. */
  readonly started: string;
  readonly bytes: Uint8Array;
}

const PAGE = 4096n;
const MAX_LENGTH = 16 * 2 ** 20;

export const MEMORY_RANGE: Schema<MemoryRange> = record<MemoryRange>({
  pid: integer(1, 2 ** 22),
  address: U64,
  length: integer(1, MAX_LENGTH),
  unit: optional(oneOf(1, 2, 4, 8)),
});

/** When process $1 was started. */
const STARTED = `started() { sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f 20; }
state() { sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f 1; }`;

/** Prints when process $1 was started, a line, and its $3 pages from page $2 on. */
const READ = `${STARTED}
started "$1" && dd if="/proc/$1/mem" bs=4096 skip="$2" count="$3" 2>/dev/null`;

/**
 * Writes bytes of the file $2, which has the pages from page $3 on, to process $1: the pages have to have the hash $4 still. Each further
 * argument is a piece: the size of a block, the block where it begins, and how many there are. Exit code 9: it has changed.
 */
const WRITE = `${STARTED}
pid=$1 file=$2 page=$3 hash=$4 count=$5 start=$6
shift 6
before=$(state "$pid") || exit 1
case $before in T|t) ;; *)
  kill -STOP "$pid" || exit 1
  n=0
  until case $(state "$pid") in T|t) true;; *) false;; esac; do n=$((n + 1)); [ $n -lt 1000 ] || break; sleep 0.001; done;;
esac
code=9
now=$(dd if="/proc/$pid/mem" bs=4096 skip="$page" count="$count" 2>/dev/null | sha256sum)
if [ "$(started "$pid")" = "$start" ] && [ "\${now%% *}" = "$hash" ]; then
  code=0
  while [ $# -gt 0 ]; do
    dd if="$file" of="/proc/$pid/mem" bs="$1" skip=$(($2 - page * 4096 / $1)) seek="$2" count="$3" conv=notrunc 2>/dev/null || code=1
    shift 3
  done
fi
case $before in T|t) ;; *) kill -CONT "$pid";; esac
rm -f "$file"
exit $code`;

/** Bytes of a process. Throws where there is no such process, or a part of it has no memory. */
export async function readMemory(
  machine: Machine,
  range: MemoryRange,
  options: WaitOptions = {},
): Promise<MemoryContent> {
  const { pages, phase } = pagesOf(range);
  const parts: Uint8Array[] = [];
  const { exitCode } = await machine.exec(
    ['sh', '-c', READ, 'sh', String(range.pid), String(range.address / PAGE), String(pages)],
    { ...options, onStdout: (bytes) => parts.push(bytes) },
  );
  const all = new Uint8Array(Buffer.concat(parts));
  const line = all.indexOf(0x0a);
  const bytes = all.subarray(line + 1);
  if (exitCode !== 0 || line < 0 || bytes.length !== pages * Number(PAGE))
    throw new BraidError(
      'ERR_BRAID_MEMORY',
      `process ${range.pid} has no ${range.length} bytes at 0x${range.address.toString(16)}`,
    );
  return {
    started: Buffer.from(all.subarray(0, line)).toString(),
    bytes: bytes.subarray(phase, phase + range.length),
  };
}

/**
 * Writes the bytes that differ from what the range held (`before`). False when the process is another one, or the pages that the range is in
 * have changed since, and nothing has been written then.
 */
export async function writeMemory(
  machine: Machine,
  range: MemoryRange,
  before: MemoryContent,
  bytes: Uint8Array,
  options: WaitOptions = {},
): Promise<boolean> {
  const { pages, phase } = pagesOf(range);
  // Whole pages as they are now, so that the guest can compare them and copy them.
  const now = await readMemory(
    machine,
    { pid: range.pid, address: range.address - BigInt(phase), length: pages * Number(PAGE) },
    options,
  );
  if (
    now.started !== before.started ||
    Buffer.compare(now.bytes.subarray(phase, phase + range.length), before.bytes) !== 0
  )
    return false;
  const content = now.bytes.slice();
  content.set(bytes, phase);
  let from = 0;
  while (from < bytes.length && bytes[from] === before.bytes[from]) from++;
  let to = bytes.length;
  while (to > from && bytes[to - 1] === before.bytes[to - 1]) to--;
  if (from === to) return true;
  const file = `/tmp/.braid-memory-${range.pid}`;
  await machine.writeFile(file, content, options);
  const hash = Buffer.from(await crypto.subtle.digest('SHA-256', now.bytes.slice())).toString('hex');
  const first = range.address / PAGE;
  const args = [String(range.pid), file, String(first), hash, String(pages), now.started];
  const pieces = piecesOf(range.address + BigInt(from), range.address + BigInt(to));
  const { exitCode, stderr } = await machine.exec(['sh', '-c', WRITE, 'sh', ...args, ...pieces.map(String)], options);
  if (exitCode !== 0 && exitCode !== 9)
    throw new BraidError('ERR_BRAID_MEMORY', `process ${range.pid} cannot be written: ${stderr.trim().slice(0, 400)}`);
  return exitCode === 0;
}

/** Pages by pages, what is left at both ends by bytes: size of a block, first block, and how many. */
function piecesOf(from: bigint, to: bigint): bigint[] {
  const up = ((from + PAGE - 1n) / PAGE) * PAGE;
  const down = (to / PAGE) * PAGE;
  if (up >= down) return [1n, from, to - from];
  const pieces = [PAGE, up / PAGE, (down - up) / PAGE];
  if (from < up) pieces.push(1n, from, up - from);
  if (down < to) pieces.push(1n, down, to - down);
  return pieces;
}

function pagesOf({ pid, address, length }: MemoryRange): { readonly pages: number; readonly phase: number } {
  const good =
    Number.isInteger(pid) && pid > 0 && Number.isInteger(length) && length > 0 && length <= MAX_LENGTH + Number(PAGE);
  if (!good || address < 0n || address + BigInt(length) > 1n << 63n)
    throw new BraidError('ERR_BRAID_OPTION', `no range of memory: ${length} bytes at ${address} of process ${pid}`);
  const phase = Number(address % PAGE);
  return { pages: Math.ceil((phase + length) / Number(PAGE)), phase };
}
