// From a key to its echo, in the default guest's shell while the guest has other work, in real time.

import { setTimeout as sleep } from 'node:timers/promises';
import { Machine } from '../../packages/node/src/machine.ts';
import { Watched } from '../harness.ts';
import { PROMPT } from '../lib/guest.ts';

/** A busy loop, and starts of a program that computes. */
const LOAD =
  '(while :; do :; done) & (while :; do gzip -c /bin/busybox; done) >/dev/null 2>&1 & sleep 1; echo "<loa""ded>"\n';
const LOADED = '<loaded>';
/** Keys on a line before it is thrown away: fewer than the terminal is wide. */
const LINE = 40;
const KILL_LINE = '\x15';
const TIMEOUT_SECONDS = 10;

/** Types, and resolves with the milliseconds until the text appears in what is printed from then on. */
type Type = (text: string, awaited: string) => Promise<number>;

/** Milliseconds of each key. */
async function typeKeys(type: Type, keys: number): Promise<number[]> {
  await type(LOAD, LOADED);
  await sleep(500);
  const samples: number[] = [];
  for (let i = 0; i < keys; i++) {
    // The shell answers with the prompt, printed again.
    if (i % LINE === LINE - 1) await type(KILL_LINE, PROMPT);
    await sleep(20 + ((i * 37) % 61)); // no beat with the guest's timer
    const key = String.fromCharCode(97 + (i % 26));
    samples.push(await type(key, key));
  }
  return samples;
}

export async function keysInBraid(keys: number): Promise<number[]> {
  await using machine = await Machine.create({ time: 'wall', seed: 1 });
  let output = '';
  let arrived: () => void = () => {};
  machine.onConsole((bytes) => {
    output += Buffer.from(bytes).toString('latin1');
    arrived();
  });
  const seen = (awaited: string) =>
    new Promise<void>((resolve, reject) => {
      const late = () => reject(new Error(`no ${JSON.stringify(awaited)} from the guest: ${output}`));
      const timer = setTimeout(late, TIMEOUT_SECONDS * 1000);
      arrived = () => {
        if (!output.includes(awaited)) return;
        clearTimeout(timer);
        resolve();
      };
      arrived();
    });
  await machine.run();
  await seen(PROMPT);
  return await typeKeys(async (text, awaited) => {
    output = '';
    const start = performance.now();
    const answered = seen(awaited);
    await machine.type(text);
    await answered;
    return performance.now() - start;
  }, keys);
}

/** The peer, started with these arguments, on our pipes. */
export async function keysInPeer(command: string, args: readonly string[], keys: number): Promise<number[]> {
  await using child = new Watched(command, args);
  await child.until(PROMPT);
  return await typeKeys(async (text, awaited) => {
    const start = child.seconds;
    child.send(text);
    return 1000 * ((await child.until(awaited, TIMEOUT_SECONDS)) - start);
  }, keys);
}

/** The value that this part of the samples does not exceed. */
export function percentile(samples: readonly number[], part: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.ceil(part * sorted.length) - 1]!;
}
