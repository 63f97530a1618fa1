/** Edges of what a guest's agent is asked for: environments, folders, sizes, and files that are no regular ones. */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type BraidError, Machine } from './index.ts';

let machine: Machine;
before(async () => {
  machine = await Machine.create({ memory: '128M', seed: 1 });
  await machine.boot();
});
after(() => machine.dispose());

const agentError = (kind: string, message: RegExp) => (error: BraidError) => {
  assert.deepEqual([error.code, error.kind], ['ERR_BRAID_AGENT', kind], error.message);
  assert.match(error.message, message);
  return true;
};
const refused = (message: RegExp) => agentError('refused', message);

describe('programs', () => {
  test('the environment is as child_process has it', async () => {
    const { stdout } = await machine.exec(['env'], { env: { A: undefined, B: '', C: 'x=y\n', 'D E': 'ä' } });
    assert.doesNotMatch(stdout, /^A=/m);
    assert.match(stdout, /^B=\nC=x=y\n\nD E=ä\n/m);
  });

  const wrong: [Record<string, unknown>, RegExp][] = [
    [{ A: null }, /^env\.A must be a string: got null$/],
    [{ A: 5 }, /^env\.A must be a string: got 5$/],
    [{ 'A=B': 'c' }, /^a name in env must be .*: got "A=B"$/],
    [{ '': 'c' }, /^a name in env must be .*: got ""$/],
    [{ A: 'b\0c' }, /^env\.A must be a string without zero characters/],
    [{ 'A\0B': 'c' }, /^a name in env must be a string without zero characters/],
  ];
  for (const [env, message] of wrong)
    test(JSON.stringify(env), () =>
      assert.rejects(machine.exec(['env'], { env: env as Record<string, string> }), {
        code: 'ERR_BRAID_OPTION',
        message,
      }),
    );

  test('a folder that is not there is blamed, and not the program', async () => {
    await assert.rejects(machine.exec(['pwd'], { cwd: '/nope' }), refused(/folder \/nope: No such file/));
    await assert.rejects(
      machine.exec(['pwd'], { cwd: '/etc/passwd' }),
      refused(/folder \/etc\/passwd: Not a directory/),
    );
    await assert.rejects(machine.exec(['nope']), refused(/execute nope: No such file/));
  });

  test('the word that asks spawn for a stream is a text for exec', async () => {
    assert.equal((await machine.exec(['cat'], { input: 'stream' })).stdout, 'stream');
  });

  test('arguments: as many and as long as Linux takes, and what it says beyond', async () => {
    const count = (args: readonly string[]) => machine.exec(['sh', '-c', `echo $# \${#1}`, 'sh', ...args]);
    assert.equal((await count(['x'.repeat(131_071)])).stdout, '1 131071\n');
    assert.equal((await count(Array(60_000).fill('xy'))).stdout, '60000 2\n');
    assert.equal((await count(Array(15).fill('x'.repeat(131_000)))).stdout, '15 131000\n');
    await assert.rejects(count(['x'.repeat(131_072)]), refused(/Argument list too long/));
    await assert.rejects(count(Array(20).fill('x'.repeat(131_000))), refused(/Argument list too long/));
    await assert.rejects(count(Array(70).fill('x'.repeat(131_000))), refused(/too long/));
    await assert.rejects(count(Array(70_000).fill('x')), refused(/too many values/));
    assert.equal((await count(['a'])).stdout, '1 1\n');
  });
});

describe('files', () => {
  for (const name of ['plain', 'with space', '-n', 'ä "\\\n\t', '*?[a]$(reboot)`', 'x'.repeat(255)])
    test(`named ${JSON.stringify(name).slice(0, 40)}`, async () => {
      await machine.writeFile(`/tmp/${name}`, name);
      assert.equal(Buffer.from(await machine.readFile(`/tmp/${name}`)).toString(), name);
    });

  test('empty, binary, and of several MiB', async () => {
    const big = Uint8Array.from({ length: 3_000_001 }, (_, n) => (n * n) >> 3);
    for (const content of [new Uint8Array(0), Uint8Array.of(0, 255, 10, 13, 0), big]) {
      await machine.writeFile('/tmp/content', content);
      assert.ok(Buffer.from(await machine.readFile('/tmp/content')).equals(content));
    }
    await assert.rejects(machine.readFile('/tmp/content', { limit: 3_000_000 }), agentError('limit', /more than/));
  });

  test('missing ones, folders, what cannot be written', async () => {
    await assert.rejects(machine.readFile('/nope'), refused(/\/nope: No such file/));
    await assert.rejects(machine.readFile('/etc'), refused(/Is a directory/));
    await assert.rejects(machine.writeFile('/etc', ''), refused(/Is a directory/));
    await assert.rejects(machine.writeFile('/nope/a', ''), refused(/No such file/));
    await assert.rejects(machine.writeFile('/dev/full', 'a'), refused(/No space left/));
    await assert.rejects(machine.writeFile(`/tmp/${'x'.repeat(256)}`, ''), refused(/too long/));
  });

  test('sources without an end are read as far as they go', async () => {
    const log = Buffer.from(await machine.readFile('/dev/kmsg')).toString();
    assert.match(log, /Linux version/);
    await assert.rejects(machine.readFile('/dev/zero', { limit: 1e6 }), agentError('limit', /more than/));
  });

  test('pipes: a slow reader gets all of it, and what a slow writer writes is all read', async () => {
    await machine.exec(['mkfifo', '/tmp/pipe']);
    const reader = machine.exec(['sh', '-c', 'exec </tmp/pipe; sleep 0.3; wc -c']);
    await machine.exec(['sleep', '0.1']);
    await machine.writeFile('/tmp/pipe', new Uint8Array(1e6));
    assert.equal((await reader).stdout, '1000000\n');
    const writer = machine.exec(['sh', '-c', '(echo a; sleep 0.5; echo b) >/tmp/pipe']);
    await machine.exec(['sleep', '0.1']);
    assert.equal(Buffer.from(await machine.readFile('/tmp/pipe')).toString(), 'a\nb\n');
    await writer;
    await assert.rejects(machine.writeFile('/tmp/pipe', 'a'), refused(/No such device or address/));
  });
});
