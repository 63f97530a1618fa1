/** `braid tour`: what `npm start` does where there is no terminal. Boots the guest that ships and shows what it is. */

import { escapeGuestText } from '@braid/core/agent/escape.ts';
import { createOptions, type RunFlags } from '../flags.ts';
import { Machine } from '../machine.ts';

const PRIMES =
  'n=2; found=0; while [ $n -lt 500 ]; do d=2; while [ $((d*d)) -le $n ] && [ $((n%d)) -ne 0 ]; do d=$((d+1)); done; [ $((d*d)) -gt $n ] && found=$((found+1)); n=$((n+1)); done; echo "$found primes below 500"';

export async function tour(flags: RunFlags): Promise<number> {
  const started = performance.now();
  const say = (line = '') => process.stdout.write(`${line}\n`);
  await using machine = await Machine.create(createOptions(undefined, flags, flags.time ?? 'virtual'));
  await machine.boot();
  const booted = performance.now() - started;
  const { steps } = await machine.stats();
  say(`Braid: Linux is up after ${millions(steps)} steps, ${(booted / 1000).toFixed(2)} s (seed ${machine.seed}).`);

  const show = async (title: string, argv: readonly string[]) => {
    const result = await machine.exec(argv);
    say();
    say(`$ ${title}`);
    for (const line of (result.stdout + result.stderr).trimEnd().split('\n'))
      say(`  ${escapeGuestText(line.replaceAll('\t', ' '), { limit: 120 })}`);
    if (result.exitCode !== 0) throw new Error(`${title}: exit code ${result.exitCode}`);
    return result;
  };
  await show('uname -a', ['uname', '-a']);
  await show('head -n 6 /proc/cpuinfo', ['head', '-n', '6', '/proc/cpuinfo']);
  const result = await show('a loop in the shell', ['sh', '-c', PRIMES]);
  say(`  (${millions(result.steps)} steps)`);
  const text = 'written by the host, read by the guest\n';
  await machine.writeFile('/tmp/note', text);
  await show('cat /tmp/note', ['cat', '/tmp/note']);
  await machine.exec(['sh', '-c', 'tr a-z A-Z </tmp/note >/tmp/answer']);
  say(
    `  and back: ${escapeGuestText((await new Response((await machine.readFile('/tmp/answer')).slice()).text()).trim())}`,
  );

  const stats = await machine.stats();
  say();
  say(
    `${millions(stats.steps)} steps, ${stats.guestSeconds.toFixed(2)} s of guest time, ${((performance.now() - started) / 1000).toFixed(2)} s of ours.`,
  );
  say(`State hash ${await machine.stateHash()}: the same again with --seed ${machine.seed}.`);
  say('On a terminal, npm start gives you a shell.');
  return 0;
}

function millions(steps: bigint): string {
  return `${(Number(steps) / 1e6).toFixed(1)} million`;
}
