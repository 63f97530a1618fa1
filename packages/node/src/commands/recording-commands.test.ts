/** The commands that work on recordings, as processes. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { guestMissing } from '@braid/core/testing/machines.ts';
import { decodeHeader, encodeHeader, HEAD_SIZE, HEADER_SIZE } from '@braid/core/timeline/recording/chunk.ts';
import { CODECS } from '../replay/recording-file.ts';
import { braid, echoProgram, exitProgram, MAIN, temporaryFolder } from '../testing.ts';

const linux = { skip: guestMissing };

/** A recording of the program that sends back what is typed; what it said. */
async function echoed(folder: string): Promise<{ path: string; said: string }> {
  const program = join(folder, 'echo');
  writeFileSync(program, echoProgram());
  const path = join(folder, 'echo.rec');
  const run = ['run', '--memory', '32M', '--seed', '1', '--time', 'virtual', '--bare', program, '--record', path];
  const { code, stdout, stderr } = await braid([...run, '--mark', 'cd'], { input: 'abcq' });
  assert.equal(code, 0, stderr);
  assert.match(stderr, /^braid: recorded [\d,]+ steps in .*echo\.rec, [\d.]+ KiB\n$/);
  return { path, said: stdout };
}

/** The same file with one byte in place of another where chunks of a kind hold a text, checksums and all. */
function changed(path: string, kind: string, text: string, byte: number): Uint8Array {
  const file = readFileSync(path);
  const parts: Uint8Array[] = [file.subarray(0, HEAD_SIZE)];
  let changes = 0;
  for (let number = 0, at = HEAD_SIZE; at < file.length; number++) {
    const header = decodeHeader(file.subarray(at, at + HEADER_SIZE), number, at);
    const stored = file.subarray(at + HEADER_SIZE, at + HEADER_SIZE + header.stored);
    const codec = CODECS.find(({ id }) => id === header.codec);
    const content = Buffer.from(codec ? codec.decompress(stored, header.size) : stored);
    const place = content.indexOf(text);
    if (header.kind === kind && place >= 0) {
      content[place] = byte;
      parts.push(encodeHeader(number, header.kind, 0, content, content.length), content);
      changes++;
    } else parts.push(file.subarray(at, at + HEADER_SIZE), stored);
    at += HEADER_SIZE + header.stored;
  }
  assert.equal(changes, 1);
  return Buffer.concat(parts);
}

test('a run is recorded, looked at, and replayed', async (t) => {
  const { path, said } = await echoed(temporaryFolder(t.after.bind(t)));
  assert.equal(said, 'bcd');
  const [info, json, marks, markJson, replay, part, begin] = await Promise.all([
    braid(['info', path]),
    braid(['info', path, '--json']),
    braid(['marks', path]),
    braid(['marks', path, '--json']),
    braid(['replay', path]),
    braid(['replay', path, '--to', 'cd', '--json']),
    braid(['replay', path, '--to', '0']),
  ]);
  assert.match(info.stdout, /^Recorded {2}braid run[\s\S]*1 hart, 32\.0 MiB, seed 1[\s\S]*poweroff, code 0/);
  assert.deepEqual([info.code, info.stderr], [0, '']);
  const { harts, complete, end, events } = JSON.parse(json.stdout);
  assert.deepEqual([harts, complete, end.exit, events > 0], [1, true, { kind: 'poweroff', code: 0 }, true]);
  assert.match(marks.stdout, /^ +step .*\n[\s\S]* console +cd\n[\s\S]* end /);
  const mark = JSON.parse(markJson.stdout).find(({ name }: { name: string }) => name === 'cd');
  assert.deepEqual([replay.code, replay.stdout], [0, said]);
  assert.match(replay.stderr, /(?:^|\n)braid: replayed [\d,]+ steps in .*: \d+ states? as recorded\n$/);
  const { diverged, step, position } = JSON.parse(part.stdout);
  assert.deepEqual([part.code, diverged, step, position], [0, false, mark.step, mark.position]);
  assert.deepEqual([begin.code, begin.stdout], [0, '']);
});

test('a replay that is another run says where, and fails', async (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const { path } = await echoed(folder);
  const other = join(folder, 'other.rec');
  // What turns the machine off is typed sooner.
  writeFileSync(other, changed(path, 'events', 'bcq', 0x71));
  const [text, json] = await Promise.all([braid(['replay', other]), braid(['replay', other, '--json'])]);
  assert.deepEqual([text.code, json.code], [1, 1]);
  assert.match(text.stderr, /(?:^|\n)braid: the replay differs from what was recorded at step \d+ \(\d+:0:\d+\): /);
  assert.equal(JSON.parse(json.stdout).diverged, true);
});

test('what cannot be used is refused, and says what to do', async (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const { path } = await echoed(folder);
  const file = (name: string, content: Uint8Array | string) => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  const none = file('none', 'no recording');
  const refused = await Promise.all([
    braid(['info', join(folder, 'missing')]),
    braid(['info', none]),
    braid(['replay', path, '--to', 'nowhere']),
    braid(['replay', path, '--to', '999G']),
    braid(['gdb', path, '--', '-batch']),
    braid(['gdb', path, '--port', '1000000']),
    braid(['trace', 'functions', path]),
    braid(['trace', 'functions', path, '--elf', none]),
    braid(['threads', path, '--trace', join(folder, 'no', 'folder')]),
    braid(['run', '--mark', 'x', '--', 'true']),
    braid(['run', '--record', none, '--', 'true']),
  ]);
  const said = [
    /there is no such file/,
    /none: .*this is no recording/,
    /no mark "nowhere"/,
    /the recording ends at step \d+/,
    /add --run/,
    /0 to 65535/,
    /--elf PROGRAM/,
    /none: .*with its symbols/,
    /there is no such file; give another path/,
    /add --record/,
    /is no recording; give another path/,
  ];
  for (const [n, { code, stdout, stderr }] of refused.entries()) {
    assert.deepEqual([code, stdout], [2, ''], stderr);
    assert.match(stderr, said[n]!);
  }
  assert.equal(readFileSync(none, 'utf8'), 'no recording');
  // A recording that was cut off is used as far as it goes; a machine without Linux has no threads.
  const whole = readFileSync(path);
  const cut = await braid(['info', file('cut.rec', whole.subarray(0, whole.length - 10)), '--json']);
  assert.deepEqual([cut.code, JSON.parse(cut.stdout).complete], [0, false]);
  const { code, stderr } = await braid(['threads', path]);
  assert.equal(code, 125);
  assert.match(stderr, /^braid: .*kernel/);
});

test('gdb is waited for at a socket, which goes away with us', async (t) => {
  const { path } = await echoed(temporaryFolder(t.after.bind(t)));
  const child = spawn(process.execPath, [MAIN, 'gdb', path, '--json'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'close');
  const [line] = (await once(child.stdout.setEncoding('utf8'), 'data')) as [string];
  const { remote, socket } = JSON.parse(line);
  assert.equal(remote, `target remote ${socket}`);
  assert.ok(lstatSync(socket).isSocket());
  child.kill('SIGTERM');
  assert.deepEqual(await ended, [128 + 15, null]);
  assert.ok(!existsSync(socket));
});

test('what Linux did is found out from a recording', linux, async (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const path = join(folder, 'linux.rec');
  const command = ['sh', '-c', 'cat /etc/passwd | wc -l; sleep 1; exit 3'];
  const run = await braid(['run', '--seed', '1', '--harts', '2', '--record', path, '--', ...command]);
  assert.equal(run.code, 3, run.stderr);
  const trace = join(folder, 'trace.json');
  const [replay, calls, records, threads, program, whole] = await Promise.all([
    braid(['replay', path, '--json']),
    braid(['trace', 'syscalls', path, '--process', 'cat', '--calls', 'openat,read']),
    braid(['trace', 'syscalls', path, '--process', 'sleep', '--json']),
    braid(['threads', path, '--trace', trace, '--json']),
    braid(['trace', 'functions', path, '--kernel', '--from', '1s']),
    braid(['trace', 'functions', path, '--kernel', '--json']),
  ]);
  assert.equal(JSON.parse(replay.stdout).diverged, false);
  assert.match(calls.stdout, /^\[cat \d+\] [\d.]+ openat\(AT_FDCWD, "\/etc\/passwd", O_RDONLY.*\) = \d <[\d.]+>$/m);
  assert.doesNotMatch(calls.stdout, / close\(/);
  const slept = records.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
    .find(({ name }) => name === 'clock_nanosleep');
  assert.equal(BigInt(slept.duration) / 100_000_000n, 10n);
  const { tasks, harts } = JSON.parse(threads.stdout);
  assert.equal(harts.length, 2);
  const sleep = tasks.find(({ name }: { name: string }) => name === 'sleep');
  assert.match(JSON.stringify(sleep.blockedIn), /"in":"clock_nanosleep","times":1/);
  const { traceEvents } = JSON.parse(readFileSync(trace, 'utf8'));
  assert.ok(traceEvents.some(({ name }: { name: string }) => name === 'blocked: clock_nanosleep'));
  assert.match(program.stdout, /^self %.*\n[\s\S]*__handle_mm_fault/);
  // From the beginning, where the kernel is not up; the end of each interrupt is seen.
  const functions = whole.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  const [start, idle] = ['start_kernel', 'idle_cpu'].map((wanted) => functions.find(({ name }) => name === wanted));
  assert.equal(start.calls, 1);
  assert.ok(idle.calls > 1 && idle.callees.length === 0, JSON.stringify(idle.callees));
  for (const { code, stderr } of [replay, calls, records, threads, program, whole]) assert.equal(code, 0, stderr);
});

test('functions of a program', linux, async (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const path = join(folder, 'notices.rec');
  const elf = fileURLToPath(new URL('../../../../examples/race/prebuilt/notices', import.meta.url));
  const put = 'cat >/tmp/notices; chmod +x /tmp/notices; /tmp/notices </dev/hwrng';
  const run = ['run', '--seed', '1', '--harts', '4', '--guest-marks', '9', '--input', '--record', path];
  await braid([...run, '--', 'sh', '-c', put], { input: readFileSync(elf) });
  const folded = join(folder, 'folded');
  const [profile, coverage] = await Promise.all([
    braid(['trace', 'functions', path, '--elf', elf, '--folded', folded]),
    braid(['trace', 'functions', path, '--elf', elf, '--coverage', '--tree']),
  ]);
  assert.match(profile.stdout, / 6000 {2}finish\n[\s\S]* 2000 {2}leave_out\n/);
  assert.match(readFileSync(folded, 'utf8'), /;read_board;finish;lock \d+\n/);
  assert.match(coverage.stdout, / {2}read_board \(4\)\n[\s\S]*of \d+ functions were called/);
});

test('replay says that a recording is cut off', async (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const [program, path, cut] = ['program', 'recording', 'cut'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  writeFileSync(program, exitProgram(0));
  await braid(['run', '--memory', '32M', '--seed', '1', '--bare', program, '--record', path]);
  writeFileSync(cut, readFileSync(path).subarray(0, -1));
  const [whole, part] = await Promise.all([braid(['replay', path]), braid(['replay', cut])]);
  assert.doesNotMatch(whole.stderr, /cut off/);
  assert.match(part.stderr, /the recording is cut off here/);
  // A chunk that is damaged ends it likewise: the last one is that of the end.
  const damaged = readFileSync(path);
  damaged[damaged.length - 1]! ^= 1;
  writeFileSync(cut, damaged);
  const [text, json] = await Promise.all([braid(['replay', cut]), braid(['replay', cut, '--json'])]);
  assert.match(text.stderr, /the recording ends here: it is used up to byte \d+ of its file, .*chunk \d+ is damaged/);
  const { complete, stopped } = JSON.parse(json.stdout);
  assert.deepEqual([text.code, json.code, complete], [0, 0, false]);
  assert.ok(stopped.offset > 0 && stopped.offset < damaged.length && stopped.number > 0);
});
