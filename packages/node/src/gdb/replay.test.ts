/** gdb on replays: forwards, backwards, and nothing is changed. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseKallsyms, symbolFile } from '@braid/core/gdb/symbol-file.ts';
import { guestMissing } from '@braid/core/testing/machines.ts';
import { Machine, Replay } from '../index.ts';
import { endlessProgram, temporaryFolder } from '../testing.ts';
import { Client, compile, gdb, missing, SQUARES, TOUCH, WALK } from './testing.ts';

/** After a seek, gdb has to be told to look again. */
const LOOK = 'maintenance flush register-cache';

test('a bare program of two harts', { skip: missing('gdb-multiarch', 'riscv64-unknown-elf-gcc') }, async (t) => {
  const folder = temporaryFolder((done) => t.after(done));
  const { path, bytes } = compile(folder, 'bare', SQUARES, 'bare');
  const file = join(folder, 'recording');
  {
    await using machine = await Machine.create({ bare: bytes, harts: 2 });
    const recording = await machine.record(file);
    await machine.step(150_000n);
    await recording.mark('middle');
    await machine.step(150_000n);
    await recording.stop();
  }
  await using replay = await Replay.open(file);
  await using server = await replay.gdb();

  await t.test('breakpoints and steps, forwards and backwards', async () => {
    const text = await gdb(
      [
        server.remote,
        'break square',
        'continue',
        'continue',
        'continue',
        'reverse-continue',
        'printf "n is %ld\\n", n',
        'reverse-stepi',
        'x/i $pc',
        'stepi',
        'x/i $pc',
        'reverse-finish',
        'x/i $pc',
        'delete',
        'reverse-continue',
        'info threads',
      ],
      path,
    );
    for (const n of [1, 2, 3]) assert.match(text, new RegExp(`hit Breakpoint 1, square \\(n=${n}\\)`));
    assert.match(text, /n is 2\n/);
    assert.match(text, /=> 0x8000000(\d) <square\+\d+>:.*\n(.*\n)*=> 0x8000000a <square\+10>/);
    assert.match(text, /=> 0x[0-9a-f]+ <run\+\d+>:\tjal/);
    assert.match(text, /No more reverse-execution history/);
    assert.match(text, /\* 1 +Thread 1 "hart 0" _start \(\)/);
    assert.equal(replay.at, 0n);
  });

  await t.test('who wrote: watchpoints, and monitor last-write', async () => {
    const text = await gdb(
      [
        server.remote,
        'monitor seek middle',
        LOOK,
        'watch total',
        'reverse-continue',
        'reverse-continue',
        'x/i $pc',
        'continue',
        'delete',
        'eval "monitor last-write %p 8", &total',
        'monitor seek middle',
        LOOK,
        'eval "monitor last-write %p 8", &total',
        LOOK,
        'x/i $pc',
      ],
      path,
    );
    const values = [...text.matchAll(/Old value = (\d+)\nNew value = (\d+)\n/g)].map(([, old, now]) => [old, now]);
    // Back twice, and forth once.
    assert.equal(values.length, 3);
    assert.equal(values[0]![1], values[1]![0]);
    assert.deepEqual(values[2], [values[1]![1], values[1]![0]]);
    assert.match(text, /=> 0x[0-9a-f]+ <run\+\d+>:\tsd\t/);
    assert.match(text, /hart [01] wrote there\. step \d+ of 300000/);
  });

  await t.test('the commands that the documentation defines', async () => {
    const page = readFileSync(new URL('../../../../docs/gdb.md', import.meta.url), 'utf8');
    const commands = join(folder, 'commands');
    writeFileSync(commands, /define seek\n[^`]*/.exec(page)![0]);
    const text = await gdb([server.remote, `source ${commands}`, 'seek middle', 'last-write total', 'x/i $pc'], path);
    assert.match(text, /step 150000 of 300000/);
    assert.match(text, /#0 +0x[0-9a-f]+ in run \(\)/);
    assert.match(text, /wrote there/);
    assert.match(text, /=> 0x[0-9a-f]+ <run\+\d+>:/);
  });

  await t.test('commands of a person', async () => {
    const text = await gdb([
      server.remote,
      'monitor marks',
      'monitor seek #1',
      'monitor when',
      'monitor seek -100',
      'monitor seek 20us',
      'monitor seek 0:0:7',
      'monitor seek end',
      'monitor seek nowhere',
      'monitor seek #99',
      'monitor seek 300001',
      'monitor last-write here',
      'monitor hash',
    ]);
    assert.match(text, /#1 {2}step 150000 {2}0\.000150000 s {2}host middle\n/);
    assert.match(text, /step 149900 of 300000/);
    assert.match(text, /step 20000 of 300000, position \S+, guest time 0\.000020000 s/);
    assert.match(text, /position 0:0:7, /);
    assert.match(text, /step 300000 of 300000/);
    assert.match(text, /the recording has no mark "nowhere"; it has begin, middle, stopped/);
    assert.match(text, /there is no mark #99/);
    assert.match(text, /steps 0 to 300000, and no step 300001/);
    assert.match(text, /monitor last-write ADDRESS/);
    assert.ok(text.includes(await replay.stateHash()));
  });

  await t.test('nothing is changed, but in a machine that leaves', async () => {
    await replay.seek('middle');
    const hash = await replay.stateHash();
    const text = await gdb(
      [server.remote, 'set var total = 3', 'set $pc = 0', 'break square', 'stepi', 'reverse-stepi', 'monitor fork'],
      path,
    );
    assert.match(text, /Cannot access memory at address/);
    assert.match(text, /a replay's registers cannot be changed/);
    assert.equal(replay.at, 150_000n);
    assert.equal(await replay.stateHash(), hash);
    const fork = /in another gdb: (target remote \S+)/.exec(text)![1]!;
    const other = await gdb(
      [fork, 'set var total = 3', 'print total', 'print square(7)', 'break square', 'continue'],
      path,
    );
    assert.match(other, /= 3\n/);
    assert.match(other, /= 49\n/);
    assert.match(other, /hit Breakpoint 1, square/);
    assert.equal(await replay.stateHash(), hash);
  });

  await t.test('a step of a hart is one step of that hart, in both directions', async () => {
    await replay.seek('middle');
    const client = new Client(server);
    const mcycle = async (hart: number) => {
      await client.ask(`Hg${hart + 1}`);
      const hex = await client.ask(`p${(65 + 0xb00).toString(16)}`);
      return Buffer.from(hex!, 'hex').readBigUInt64LE();
    };
    for (const [hart, back] of [
      [0, true],
      [1, true],
      [1, true],
      [1, false],
      [0, false],
      [0, true],
      [1, false],
    ] as const) {
      const before = await mcycle(hart);
      await client.ask(`Hc${hart + 1}`);
      const stop = await client.ask(back ? 'bs' : `vCont;s:${hart + 1}`);
      assert.match(stop!, new RegExp(`^T05thread:${hart + 1};`));
      assert.equal(await mcycle(hart), back ? before - 1n : before + 1n);
    }
    client.socket.destroy();
    await client.closed;
  });

  await t.test('gdb says where history begins and ends', async () => {
    const ends = {
      begin: ['reverse-continue', 'reverse-stepi', 'reverse-step', 'reverse-next'],
      end: ['continue', 'stepi', 'step', 'next', 'until', 'advance *0x80000000', 'finish'],
    };
    for (const [end, commands] of Object.entries(ends)) {
      for (const watch of [[], ['watch total']]) {
        for (const command of commands) {
          const text = await gdb([server.remote, `monitor seek ${end}`, LOOK, ...watch, command], path);
          assert.match(text, /No more reverse-execution history/, `${command} at the ${end} ${watch}\n${text}`);
          assert.equal(replay.at, end === 'begin' ? 0n : replay.end.at);
        }
      }
    }
    await using live = await Machine.create({ bare: endlessProgram('quiet') });
    await using debugged = await live.gdb();
    for (const command of ['reverse-stepi', 'reverse-continue'])
      assert.match(await gdb([debugged.remote, command]), /Target remote does not support this command/);
  });

  await t.test('the beginning and the end', async () => {
    const client = new Client(server);
    assert.match((await client.ask('qSupported'))!, /ReverseStep\+;ReverseContinue\+/);
    assert.match((await client.ask('vCont;c'))!, /^T05replaylog:end;/);
    assert.match((await client.ask('vCont;s:1'))!, /^T05replaylog:end;/);
    assert.match((await client.ask('bc'))!, /^T05replaylog:begin;/);
    assert.match((await client.ask('bs'))!, /^T05replaylog:begin;/);
    client.socket.destroy();
    await client.closed;
  });
});

/** A second or so. */
const END = 1_000_000_000n;

test('an interrupt stops what takes long', async (t) => {
  const folder = temporaryFolder((done) => t.after(done));
  const file = join(folder, 'recording');
  {
    await using machine = await Machine.create({ bare: endlessProgram('quiet') });
    const recording = await machine.record(file);
    await machine.step(END);
    await recording.stop();
  }
  await using replay = await Replay.open(file);
  await using server = await replay.gdb();
  const client = new Client(server);
  await client.ask('?');
  client.socket.write('$c#63');
  await new Promise((resolve) => setTimeout(resolve, 30));
  client.socket.write('\x03');
  assert.match((await client.reply())!, /^T02thread:1;/);
  const { at } = replay;
  assert.ok(at > 0n && at < END);
  await replay.seek({ at: END });
  // Where nobody comes, so that all of the past is looked at.
  assert.equal(await client.ask('Z0,80001000,4'), 'OK');
  client.socket.write('$bc#c5');
  await new Promise((resolve) => setTimeout(resolve, 30));
  client.socket.write('\x03');
  assert.match((await client.reply())!, /^T02thread:1;/);
  assert.equal(replay.at, END);
  client.socket.destroy();
  await client.closed;
});

/** The low part of pc in the stop replies of so many steps, and whether the hart was in user mode at each. */
async function pcs(client: Client, packet: string, count: number): Promise<string[]> {
  const seen: string[] = [];
  for (let n = 0; n < count; n++) {
    const stop = await client.ask(packet);
    assert.match(stop!, /^T05thread:/);
    // Of user mode, in this program: below 4 GiB.
    seen.push(/;20:([0-9a-f]{8})0{8};/.exec(stop!)?.[1] ?? `kernel ${stop}`);
  }
  return seen;
}

const needed = guestMissing || missing('gdb-multiarch', 'riscv64-linux-gnu-gcc');
test('the guest: its kernel and a program, backwards', { skip: needed }, async (t) => {
  const folder = temporaryFolder((done) => t.after(done));
  const file = join(folder, 'recording');
  const kernel = join(folder, 'kernel.elf');
  const { path, bytes } = compile(folder, 'program', WALK, 'linux');
  {
    await using machine = await Machine.create({ seed: 7n, harts: 2 });
    await machine.boot();
    writeFileSync(kernel, symbolFile(parseKallsyms((await machine.exec(['cat', '/proc/kallsyms'])).stdout)));
    await machine.writeFile('/tmp/program', bytes);
    await machine.exec(['chmod', '+x', '/tmp/program']);
    const recording = await machine.record(file);
    assert.equal((await machine.exec(['/tmp/program'])).stdout, 'sum 42\n');
    await recording.stop();
  }
  await using replay = await Replay.open(file);
  await using server = await replay.gdb();

  await t.test('the program, with lines and variables', async () => {
    const text = await gdb(
      [
        server.remote,
        'break walk',
        'continue',
        'printf "first %d\\n", item->id',
        'next',
        'next',
        'next',
        'printf "sum %d\\n", sum',
        'reverse-next',
        'printf "before %d\\n", sum',
        'watch sum',
        'continue',
        'continue',
        'reverse-continue',
        'reverse-continue',
        'reverse-continue',
        'delete',
        'reverse-finish',
        'backtrace',
      ],
      path,
    );
    assert.match(text, /hit Breakpoint 1, walk \(item=0x[0-9a-f]+\)/);
    assert.match(text, /first 12\n/);
    assert.match(text, /sum 12\n/);
    assert.match(text, /before 0\n/);
    assert.match(text, /Old value = 0\nNew value = 12\n/);
    assert.match(text, /Old value = 12\nNew value = 42\n/);
    assert.match(text, /Old value = 42\nNew value = 12\n/);
    assert.match(text, /Old value = 12\nNew value = 0\n/);
    // The write before is that of `int sum = 0`, where the breakpoint is, and 0 it was already.
    assert.equal([...text.matchAll(/hit Breakpoint 1, walk/g)].length, 2);
    assert.match(text, /#0 .* main \(\) at/);
  });

  await t.test('its kernel, by the names in /proc/kallsyms', async () => {
    const text = await gdb(
      [
        server.remote,
        'monitor seek end',
        LOOK,
        'hbreak *do_exit',
        'reverse-continue',
        'info registers priv',
        'delete',
        'hbreak *do_sys_openat2',
        'reverse-continue',
        'x/i $pc',
      ],
      kernel,
    );
    assert.match(text, /hit Breakpoint 1, 0x[0-9a-f]+ in do_exit \(\)/);
    assert.match(text, /prv:1 \[Supervisor\]/);
    assert.match(text, /=> 0x[0-9a-f]+ <do_sys_openat2>:/);
  });
});

test('what a debugger changed is in the recording', async (t) => {
  const file = join(
    temporaryFolder((done) => t.after(done)),
    'recording',
  );
  await using machine = await Machine.create({ bare: endlessProgram('quiet') });
  const recording = await machine.record(file);
  await machine.step(1000n);
  {
    await using server = await machine.gdb();
    const client = new Client(server);
    assert.equal(await client.ask('M80002000,4:01020304'), 'OK');
    assert.equal(await client.ask('P7=0900000000000000'), 'OK');
    assert.match((await client.ask('vCont;s:1'))!, /^T05/);
    assert.equal(await client.ask('M80002000,1:05'), 'OK');
    client.socket.destroy();
    await client.closed;
  }
  await machine.step(1000n);
  const { steps } = await recording.stop();
  const hash = await machine.stateHash();
  await using replay = await Replay.open(file);
  assert.deepEqual(await replay.run(), { kind: 'end' });
  assert.equal(replay.at, steps);
  await using end = await replay.divert();
  assert.equal(await end.stateHash(), hash);
  // Before the changes, and between them.
  await using server = await replay.gdb();
  const client = new Client(server);
  assert.equal(await client.ask('m80002000,4'), '05020304');
  await replay.seek({ at: 500n });
  assert.equal(await client.ask('m80002000,4'), '00000000');
  client.socket.destroy();
  await client.closed;
});

test('a step of a program passes over what the kernel does for it', { skip: needed }, async (t) => {
  const folder = temporaryFolder((done) => t.after(done));
  const file = join(folder, 'recording');
  const { path, bytes } = compile(folder, 'touch', TOUCH, 'linux');
  const { status, stdout } = spawnSync('riscv64-linux-gnu-nm', [path], { encoding: 'utf8' });
  assert.equal(status, 0);
  const touch = /0*([0-9a-f]+) t touch$/m.exec(stdout)![1]!;
  await using machine = await Machine.create({ seed: 7n, harts: 2 });
  await machine.boot();
  await machine.writeFile('/tmp/touch', bytes);
  await machine.exec(['chmod', '+x', '/tmp/touch']);
  const recording = await machine.record(file);
  await using live = await machine.gdb();
  const client = new Client(live);
  await client.ask('QStartNoAckMode');
  await client.ask('?');
  const running = machine.exec(['/tmp/touch']);
  await client.ask(`Z0,${touch},4`);
  assert.match((await client.ask('c'))!, /^T05/);
  await client.ask(`z0,${touch},4`);
  const forwards = await pcs(client, 's', 150);
  assert.deepEqual(
    forwards.filter((pc) => pc.startsWith('kernel')),
    [],
  );
  await client.ask('D');
  await client.closed;
  assert.equal((await running).exitCode, 0);
  await recording.stop();

  await using replay = await Replay.open(file);
  await using server = await replay.gdb();
  const again = new Client(server);
  await again.ask('QStartNoAckMode');
  await again.ask(`Z0,${touch},4`);
  await again.ask('c');
  await again.ask(`z0,${touch},4`);
  assert.deepEqual(await pcs(again, 's', 150), forwards);
  assert.deepEqual(await pcs(again, 'bs', 149), forwards.slice(0, -1).reverse());
  // By option it goes into the kernel.
  const said = again.ask(`qRcmd,${Buffer.from('step-into on').toString('hex')}`);
  assert.match(Buffer.from((await said)!.slice(1), 'hex').toString(), /go into/);
  assert.equal(await again.reply(), 'OK');
  assert.ok((await pcs(again, 's', 30)).some((pc) => pc.startsWith('kernel')));
  again.socket.destroy();
  await again.closed;
});
