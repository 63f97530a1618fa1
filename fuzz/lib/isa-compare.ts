/** Compares a random program's checkpoints between Braid and QEMU, and finds the instruction at fault when they differ. */

import { type Outcome, runBraid } from '../../packages/core/src/testing/bare.ts';
import { AT, CONTEXT, type Cut, type IsaProgram, LOG } from '../../packages/core/src/testing/isa-program.ts';
import { runBoth, runQemu } from './qemu.ts';

const words = (outcome: Outcome, address: number, count: number) =>
  new BigUint64Array(outcome.read(address, 8 * count).buffer);

export interface Comparison {
  /** Random instructions that Braid executed, without the run-time system around them. */
  readonly executed: bigint;
  readonly traps: bigint;
  /** First checkpoint that differs, or -1. */
  readonly differs: number;
}

/** Up to checkpoint `last`; `always` makes every checkpoint cover the arena. */
export async function compare(
  program: IsaProgram,
  last = program.checkpoints - 1,
  always = false,
): Promise<Comparison> {
  const { braid, qemu } = await runBoth(program.image(last, always));
  using ours = braid;
  using theirs = qemu;
  const a = words(ours, LOG, last + 1);
  const b = words(theirs, LOG, last + 1);
  const [executed, traps] = words(ours, CONTEXT + AT.executed, 2) as unknown as [bigint, bigint];
  return { executed, traps, differs: a.findIndex((value, i) => value !== b[i]) };
}

/** Registers at the end of a checkpoint's block. */
async function contexts(program: IsaProgram, last: number, cut: Cut): Promise<[BigUint64Array, BigUint64Array]> {
  const image = program.image(last, true, cut);
  const run = (outcome: Outcome) => {
    using done = outcome;
    return new BigUint64Array([...words(done, CONTEXT, AT.folded / 8), words(done, LOG + 8 * last, 1)[0]!]);
  };
  return [run(runBraid(image)), run(await runQemu(image))];
}

const NAMES = [
  ...Array.from({ length: 32 }, (_, n) => `x${n}`),
  ...Array.from({ length: 32 }, (_, n) => `f${n}`),
  'fcsr',
  'traps',
  'checksum',
];

const hex = (value: bigint) => value.toString(16).padStart(16, '0');

/** Cuts the block of a checkpoint shorter and shorter; says which snippet makes the difference, and what it started from. */
export async function diagnose(program: IsaProgram, found: number): Promise<string> {
  // The arena may have differed before a register did.
  const { differs } = await compare(program, found, true);
  const checkpoint = differs < 0 ? found : differs;
  const block = checkpoint % program.blocks.length;
  // A cut block leaves other values in the arena in earlier passes than the whole one; that is accepted while it differs.
  const differ = async (snippet: number) => {
    const [a, b] = await contexts(program, checkpoint, { block, snippet });
    return a.some((value, i) => value !== b[i]);
  };
  let good = 0;
  let bad = program.blocks[block]!.length;
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    if (await differ(middle)) bad = middle;
    else good = middle;
  }
  const [before] = await contexts(program, checkpoint, { block, snippet: bad - 1 });
  const [ours, theirs] = await contexts(program, checkpoint, { block, snippet: bad });
  const lines = [`checkpoint ${checkpoint}, block ${block}, snippet ${bad - 1}:`, program.listing(block, bad - 1)];
  NAMES.forEach((name, i) => {
    if (ours[i] !== theirs[i]) lines.push(`  ${name}: braid ${hex(ours[i]!)}, qemu ${hex(theirs[i]!)}`);
  });
  lines.push('registers before it:');
  for (let i = 0; i < NAMES.length; i += 4) {
    lines.push(
      NAMES.slice(i, i + 4)
        .map((name, j) => `  ${name.padStart(8)} ${hex(before[i + j]!)}`)
        .join(''),
    );
  }
  return lines.join('\n');
}
