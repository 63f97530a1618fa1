/** `braid run` as a process: exit codes, results, errors. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { guestMissing } from '@braid/core/testing/machines.ts';
import { braid, echoProgram, endlessProgram, exitProgram, MAIN, temporaryFolder } from '../testing.ts';

const linux = { skip: guestMissing };
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test('a command: output, exit code, and the same statistics however busy the host is', linux, async (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const command = ['--seed', '77', '--harts', '2', '--', 'sh', '-c', 'sleep 1; date; echo err >&2; exit 9'];
  const run = (name: string) => braid(['run', '--stats', join(folder, name), ...command]);
  const alone = await run('alone');
  assert.deepEqual(alone, { code: 9, signal: null, stdout: 'Thu Jan  1 00:00:01 UTC 2026\n', stderr: 'err\n' });
  assert.deepEqual(await Promise.all([run('a'), run('b'), run('c')]), [alone, alone, alone]);
  const visible = (name: string) => {
    const { hostSeconds, mips, ...rest } = JSON.parse(readFileSync(join(folder, name), 'utf8'));
    assert.ok(hostSeconds > 0 && mips > 0);
    return rest;
  };
  const expected = visible('alone');
  for (const name of ['a', 'b', 'c']) assert.deepEqual(visible(name), expected);
  assert.match(expected.stateHash, /^[0-9a-f]{32}$/);
  assert.equal(expected.seed, '77');
  assert.equal(expected.perHart.length, 2);
  assert.deepEqual(expected.exit, { reason: 'exec', code: 9 });
});

test('commands that cannot be run, signals, input', linux, async () => {
  const [missing, killed, input, seed] = await Promise.all([
    braid(['run', '--seed', '1', '--', 'no-such-command']),
    braid(['run', '--seed', '1', '--', 'sh', '-c', 'kill -TERM $$']),
    braid(['run', '--seed', '1', '--input', '--', 'wc', '-c'], { input: 'x'.repeat(300_000) }),
    braid(['run', '--', 'true']),
  ]);
  assert.equal(missing.code, 127);
  assert.match(missing.stderr, /no-such-command/);
  assert.equal(killed.code, 143);
  assert.equal(input.stdout.trim(), '300000');
  assert.match(seed.stderr, /^braid: seed \d+\n$/);
});

test('bare programs: exit codes and signatures', async (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const file = (name: string, bytes: Uint8Array) => {
    writeFileSync(join(folder, name), bytes);
    return join(folder, name);
  };
  const run = (...args: string[]) => braid(['run', '--memory', '32M', '--seed', '1', ...args]);
  const signature = join(folder, 'signature');
  const pass = await run('--bare', file('pass', exitProgram(0, [0xdeadbeef, 7, 1])), '--signature', signature);
  assert.deepEqual(pass, { code: 0, signal: null, stdout: '', stderr: '' });
  assert.equal(readFileSync(signature, 'utf8'), 'deadbeef\n00000007\n00000001\n');
  assert.equal((await run('--bare', file('fail', exitProgram(5)))).code, 5);
  assert.equal((await run('--bare', file('large', exitProgram(1000)))).code, 255);
  const echoed = await braid(['run', '--memory', '32M', '--seed', '1', '--bare', file('echo', echoProgram())], {
    input: 'HALq',
  });
  assert.deepEqual([echoed.code, echoed.stdout], [0, 'IBM']);
  const endless = await run('--bare', file('endless', endlessProgram('quiet')), '--max-steps', '3M', '--json');
  assert.equal(endless.code, 124);
  assert.match(endless.stderr, /3000000 steps/);
  assert.equal(JSON.parse(endless.stdout).steps, 3_000_000);
  const halted = await run('--bare', file('wait', endlessProgram('wait')));
  assert.equal(halted.code, 125);
  assert.match(halted.stderr, /halted/);
});

test('a panic ends the run', linux, async () => {
  const outcome = await braid([
    'run',
    '--seed',
    '1',
    '--append',
    'rdinit=/nowhere root=/dev/none panic=0',
    '--',
    'true',
  ]);
  assert.equal(outcome.code, 125);
  assert.match(outcome.stderr, /kernel panicked: VFS: Unable to mount root/);
});

test('inputs that cannot be used: exit code 2 and what to do', async (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const file = (name: string, bytes: Uint8Array | string) => {
    writeFileSync(join(folder, name), typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
    return join(folder, name);
  };
  const elf = exitProgram(0);
  const foreign = elf.slice();
  foreign[18] = 62;
  const cases: [string[], RegExp][] = [
    [['--bare', join(folder, 'none')], /there is no such file/],
    [['--bare', folder], /it is a folder/],
    [['--bare', file('short', elf.subarray(0, 90))], /truncated/],
    [['--bare', file('foreign', foreign)], /x86-64/],
    [['--kernel', file('text', 'hello')], /kernel image/],
    [['--kernel', file('gz', Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0))], /gzip/],
    [['--memory', '8M'], /32 MiB/],
    [['--memory', 'lots'], /512M/],
    [['--harts', '99'], /1 to 8/],
    [['--harts', 'two'], /whole number/],
    [['--seed', '-1'], /64 bits/],
    [['--time', 'slow'], /virtual or wall/],
    [['--engine', 'magic'], /engines are: interpreter/],
    [['--net', 'bridge'], /none/],
    [['--disk', file('odd', 'abc')], /multiple of 512/],
    [['--disk', join(folder, 'none')], /there is no such file/],
    [['--disk', file('qcow', `QFI\xfb${'\0'.repeat(508)}`)], /qcow2/],
    [['--signature', join(folder, 's')], /--bare/],
    [['--stats', join(folder, 'no', 'where')], /there is no such file; give another path/],
    [['--frobnicate'], /unknown option/],
    [['--'], /no command/],
  ];
  const outcomes = await Promise.all(cases.map(([args]) => braid(['run', ...args])));
  outcomes.forEach((outcome, i) => {
    const [args, message] = cases[i]!;
    assert.equal(outcome.code, 2, `${args.join(' ')}: ${outcome.stderr}`);
    assert.match(outcome.stderr, message);
    assert.doesNotMatch(outcome.stderr, /unexpected:|\n {4}at /);
  });
});

test('help and version', async () => {
  const [help, version, none, unknown] = await Promise.all([
    braid(['run', '--help']),
    braid(['--version']),
    braid([]),
    braid(['fly']),
  ]);
  assert.equal(help.code, 0);
  assert.match(help.stdout, /Exit codes:/);
  assert.match(version.stdout, /^\d+\.\d+\.\d+\n$/);
  assert.match(none.stdout, /run/);
  assert.equal(unknown.code, 2);
});

test('bisect finds the first step that differs', async (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const a = join(folder, 'a');
  const b = join(folder, 'b');
  writeFileSync(a, exitProgram(1));
  writeFileSync(b, exitProgram(1));
  const run = (...rest: string[]) => braid(['bisect', '--every', '4', '--max-steps', '1000', '--json', '--', ...rest]);
  const same = await run('--bare', a, '--memory', '32M', '--versus', '--bare', b, '--memory', '32M');
  assert.equal(same.code, 0, same.stderr);
  assert.equal(JSON.parse(same.stdout).equal, true);
  const other = await run('--bare', a, '--memory', '32M', '--versus', '--bare', b, '--memory', '64M');
  assert.equal(other.code, 1);
  assert.equal(JSON.parse(other.stdout).firstDifferent, 0);
});

test('killed at any moment, a disk keeps what the guest was told is written', linux, async (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const disk = join(folder, 'disk');
  writeFileSync(disk, new Uint8Array(4 << 20));
  const script =
    'i=1; while :; do echo "line $i" | dd of=/dev/vda bs=512 seek=$i conv=fsync,notrunc 2>/dev/null; echo $i; i=$((i+1)); done';
  const child = spawn(process.execPath, [MAIN, 'run', '--seed', '1', '--disk', disk, '--', 'sh', '-c', script]);
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    out += text;
  });
  while (out.split('\n').length < 20) await sleep(20);
  child.kill('SIGKILL');
  await new Promise((resolve) => child.on('close', resolve));
  const done = out.split('\n').length - 1;
  const bytes = readFileSync(disk);
  for (let i = 1; i <= done; i++) assert.equal(bytes.toString('latin1', i * 512, i * 512 + 5), 'line ');
});

test('a signal ends a run in order', linux, async () => {
  const child = spawn(process.execPath, [MAIN, 'run', '--seed', '1', '--', 'sh', '-c', 'echo up; while :; do :; done']);
  await new Promise((resolve) => child.stdout.once('data', resolve));
  child.kill('SIGTERM');
  assert.equal(await new Promise((resolve) => child.on('close', resolve)), 143);
});

test('input without end is read as the command reads it', linux, async (t) => {
  const script = 'read -r line; echo "$line"; sleep 100; dd bs=1k count=1000 iflag=fullblock 2>/dev/null | wc -c';
  const run = ['run', '--seed', '1', '--input', '--', 'sh', '-c', script];
  const child = spawn(process.execPath, [MAIN, ...run], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  const block = Buffer.alloc(65_536, 'y\n');
  let taken = 0;
  const pump = () => {
    do taken += block.length;
    while (child.stdin.write(block));
  };
  child.stdin.on('drain', pump).on('error', () => {});
  pump();
  let output = '';
  child.stdout.setEncoding('latin1').on('data', (text) => {
    output += text;
  });
  assert.equal(await new Promise((resolve) => child.once('close', resolve)), 0);
  assert.equal(output, 'y\n1024000\n');
  assert.ok(taken < 8 * 2 ** 20, `${taken} bytes were read`);
});

test('a signal ends a command whose input does not end', linux, async (t) => {
  const child = spawn(process.execPath, [MAIN, 'run', '--input', '--', 'true'], { stdio: ['pipe', 'ignore', 'pipe'] });
  t.after(() => child.kill('SIGKILL'));
  const ended = new Promise((resolve) => child.once('exit', (code) => resolve(code)));
  // It says its seed when the machine is there.
  await new Promise((resolve) => child.stderr.once('data', resolve));
  await sleep(2000);
  child.kill('SIGTERM');
  assert.equal(await ended, 143);
});
