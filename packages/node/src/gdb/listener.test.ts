/** Where debuggers connect: who may, how many, and what is left behind. */

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { frame, textBytes } from '@braid/core/gdb/packet.ts';
import { type BraidError, Machine } from '../index.ts';
import { endlessProgram, temporaryFolder } from '../testing.ts';
import { Client } from './testing.ts';

const code = (expected: string) => (error: unknown) => (error as BraidError).code === expected;

test('a socket that is its owner’s alone', async (t) => {
  const folder = temporaryFolder((done) => t.after(done));
  await using machine = await Machine.create({ bare: endlessProgram('quiet') });

  await t.test('its mode, and that it goes with the end', async () => {
    const socket = join(folder, 'a');
    const server = await machine.gdb({ socket });
    assert.equal(server.remote, `target remote ${socket}`);
    const status = statSync(socket);
    assert.ok(status.isSocket());
    assert.equal(status.mode & 0o777, 0o600);
    assert.deepEqual(readdirSync(folder), ['a']);
    await server.close();
    assert.deepEqual(readdirSync(folder), []);
  });

  await t.test('one in a folder of its own, by default', async () => {
    const server = await machine.gdb();
    assert.equal(statSync(join(server.socket!, '..')).mode & 0o777, 0o700);
    await server.close();
    assert.ok(!existsSync(join(server.socket!, '..')));
  });

  await t.test('a stale one is replaced; a live one, a file, a folder are not', async () => {
    const stale = join(folder, 'stale');
    // A process that ends without a word leaves its socket behind.
    const { status } = await import('node:child_process').then(({ spawnSync }) =>
      spawnSync(process.execPath, [
        '-e',
        `require('net').createServer().listen('${stale}', () => process.kill(process.pid, 9))`,
      ]),
    );
    assert.equal(status, null);
    assert.ok(statSync(stale).isSocket());
    await using server = await machine.gdb({ socket: stale });
    await assert.rejects(machine.gdb({ socket: stale }), code('ERR_BRAID_OPTION'));
    const client = new Client(server);
    assert.equal(await client.ask('qAttached'), '1');
    client.socket.destroy();
    writeFileSync(join(folder, 'file'), 'precious');
    await assert.rejects(machine.gdb({ socket: join(folder, 'file') }), code('ERR_BRAID_OPTION'));
    mkdirSync(join(folder, 'folder'));
    await assert.rejects(machine.gdb({ socket: join(folder, 'folder') }), code('ERR_BRAID_OPTION'));
    await assert.rejects(machine.gdb({ socket: join(folder, 'no', 'such') }), code('ERR_BRAID_FILE'));
    await assert.rejects(machine.gdb({ socket: join(folder, 'x'.repeat(120)) }), code('ERR_BRAID_OPTION'));
    await assert.rejects(machine.gdb({ socket: join(folder, 'b'), port: 0 }), code('ERR_BRAID_OPTION'));
    await assert.rejects(machine.gdb({ port: 70_000 }), code('ERR_BRAID_OPTION'));
    assert.deepEqual(readdirSync(folder).sort(), ['file', 'folder', 'stale']);
  });

  await t.test('a socket that somebody has put in its place stays', async () => {
    const socket = join(folder, 'c');
    const server = await machine.gdb({ socket });
    const { rmSync } = await import('node:fs');
    rmSync(socket);
    const other = createServer().listen(socket);
    await server.close();
    assert.ok(statSync(socket).isSocket());
    await new Promise((resolve) => other.close(resolve));
  });
});

test('one debugger at a time, and one that vanishes is survived', async () => {
  await using machine = await Machine.create({ bare: endlessProgram('quiet') });
  await using server = await machine.gdb({ port: 0 });
  assert.match(server.remote, /^target remote 127\.0\.0\.1:\d+$/);
  const first = new Client(server);
  assert.match((await first.ask('?'))!, /^T05/);
  const second = new Client(server);
  assert.match((await second.ask('qSupported'))!, /^E\.another debugger is attached/);
  await second.closed;
  // In the middle of a run, without a word.
  first.socket.write(frame(textBytes('c')));
  await new Promise((resolve) => setTimeout(resolve, 20));
  first.socket.destroy();
  await first.closed;
  const third = new Client(server);
  assert.match((await third.ask('?'))!, /^T05/);
  third.socket.write(frame(textBytes('c')));
  await new Promise((resolve) => setTimeout(resolve, 20));
  third.socket.write(Uint8Array.of(3));
  assert.match((await third.reply())!, /^T02/);
  const { steps } = await machine.stats();
  assert.ok(steps > 0n);
  assert.equal(await third.ask('D'), 'OK');
  await third.closed;
  // What a browser can be made to send is not looked at.
  const web = new Client(server);
  web.socket.write('POST / HTTP/1.1\r\n\r\n$c#63');
  await web.closed;
  assert.equal((await machine.stats()).steps, steps);
});

test('while a debugger is attached, the machine runs for it only', async () => {
  await using machine = await Machine.create({ bare: endlessProgram('quiet') });
  await using server = await machine.gdb();
  const client = new Client(server);
  assert.match((await client.ask('?'))!, /^T05/);
  const stepped = machine.step(100_000n);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal((await machine.stats()).steps, 0n);
  for (let n = 0; n < 5; n++) assert.match((await client.ask('vCont;s:1'))!, /^T05/);
  assert.equal((await machine.stats()).steps, 5n);
  // It goes on where the debugger leaves it.
  assert.equal(await client.ask('D'), 'OK');
  await stepped;
  assert.equal((await machine.stats()).steps, 100_000n);
});

test('the machine’s end is that of the debugger’s connection', async () => {
  const machine = await Machine.create({ bare: endlessProgram('quiet') });
  const server = await machine.gdb();
  const client = new Client(server);
  assert.match((await client.ask('?'))!, /^T05/);
  client.socket.write(frame(textBytes('c')));
  await machine.dispose();
  await client.closed;
  await server.close();
  assert.ok(!existsSync(server.socket!));
});

test('a clone for another debugger', async () => {
  await using machine = await Machine.create({ bare: endlessProgram('quiet') });
  await using server = await machine.gdb();
  const client = new Client(server);
  assert.match((await client.ask('vCont;s:1'))!, /^T05/);
  const said = client.ask(`qRcmd,${Buffer.from('fork').toString('hex')}`);
  const text = Buffer.from((await said)!.slice(1), 'hex').toString();
  assert.equal(await client.reply(), 'OK');
  const socket = /target remote (\S+)\n/.exec(text)![1]!;
  const other = new Client({ socket, port: undefined });
  assert.match((await other.ask('vCont;s:1'))!, /^T05/);
  const pc = await other.ask('p20');
  assert.equal((await client.ask('vCont;s:1')) !== undefined, true);
  assert.equal(await client.ask('p20'), pc);
  assert.equal(await other.ask('D'), 'OK');
  await other.closed;
  while (existsSync(socket)) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(await client.ask('p20'), pc);
});
