/** The protocol, packet by packet, against a small bare machine. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Assembler } from '../testing/assembler.ts';
import { plainMachine } from '../testing/bare.ts';
import { coreTarget, Script } from '../testing/debug-target.ts';
import { runs } from '../testing/machines.ts';
import { bytesOfHex, bytesText, escapeBytes, hexOf, MAX_PACKET, textBytes, unescapeBytes } from './packet.ts';
import { REGISTERS, registerHex } from './registers.ts';

const RAM = 0x8000_0000n;
const DATA = RAM + 0x1000n;
const T0 = 5;
const T1 = 6;
const T2 = 7;

/** Counts in T1 and stores it, for ever; each hart in memory of its own. */
function counter(): { image: Uint8Array; loop: bigint; store: bigint } {
  const code = new Assembler(RAM);
  code.csrr(T2, 0xf14);
  code.op('slli', { rd: T2, rs1: T2, imm: 6 });
  code.la(T0, 'data');
  code.op('add', { rd: T0, rs1: T0, rs2: T2 });
  code.li(T1, 0);
  code.label('loop');
  code.op('addi', { rd: T1, rs1: T1, imm: 1 });
  code.label('store');
  code.op('sd', { rs1: T0, rs2: T1, imm: 8 });
  code.jump(0, 'loop');
  code.org(DATA);
  code.label('data');
  for (let n = 0; n < 32; n++) code.double(0x1111_1111_1111_1111n * BigInt(n % 16));
  return { image: code.bytes(), loop: code.addressOf('loop'), store: code.addressOf('store') };
}

async function attached(harts = 1, options: { slice?: number } = {}) {
  const program = counter();
  const machine = plainMachine(program.image, { harts, ...options });
  const script = new Script(coreTarget(machine));
  assert.match((await script.ask('qSupported:swbreak+;hwbreak+;vContSupported+'))!, /^PacketSize=4000;/);
  assert.equal(await script.ask('QStartNoAckMode'), 'OK');
  return { ...program, machine, script };
}

/** The value of a register in a stop reply. */
function inStop(reply: string | undefined, number: string): bigint {
  const match = new RegExp(`;${number}:([0-9a-f]{16});`).exec(reply!);
  return BigInt(`0x${hexOf(bytesOfHex(match![1]!)!.reverse())}`);
}

const little = (value: bigint) => registerHex(REGISTERS[0]!, value);

test('acknowledgements, until they are turned off', async () => {
  const machine = plainMachine(counter().image);
  const sent: string[] = [];
  const script = new Script(coreTarget(machine));
  const { server } = script;
  const transport = (server as unknown as { transport: { send(bytes: Uint8Array): void } }).transport;
  const { send } = transport;
  transport.send = (bytes) => {
    sent.push(new TextDecoder().decode(bytes));
    send(bytes);
  };
  assert.equal(await script.ask('qAttached'), '1');
  script.bytes('-');
  script.bytes('$qAttached#00');
  assert.deepEqual(sent, ['+', '$1#31', '$1#31', '-']);
  assert.equal(await script.reply(), '1');
  assert.equal(await script.ask('QStartNoAckMode'), 'OK');
  sent.length = 0;
  script.bytes('-$qAttached#00');
  assert.equal(await script.ask('qC'), 'QC1');
  assert.deepEqual(sent, ['$QC1#c5']);
  await server.close();
  machine.free();
});

test('what is there: features, threads, registers', async () => {
  const { machine, script } = await attached(2);
  const description: string[] = [];
  for (let at = 0; ; ) {
    const part = (await script.ask(`qXfer:features:read:target.xml:${at.toString(16)},200`))!;
    description.push(part.slice(1));
    at += part.length - 1;
    if (part[0] === 'l') break;
  }
  const xml = description.join('');
  assert.ok(xml.includes('<architecture>riscv:rv64</architecture>') && xml.endsWith('</target>\n'));
  const names = [...xml.matchAll(/<reg name="(\w+)"/g)].map((match) => match[1]);
  assert.deepEqual(
    names,
    REGISTERS.map(({ name }) => name),
  );
  assert.equal(new Set(REGISTERS.map(({ number }) => number)).size, REGISTERS.length);
  assert.equal(await script.ask('qXfer:features:read:other.xml:0,200'), 'E00');
  assert.equal(await script.ask('qXfer:memory-map:read::0,200'), '');
  const threads = (await script.ask('qXfer:threads:read::0,1000'))!;
  assert.deepEqual(
    [...threads.matchAll(/id="(\d)" core="(\d)" name="([^"]*)"/g)].map((match) => match.slice(1)),
    [
      ['1', '0', 'hart 0'],
      ['2', '1', 'hart 1'],
    ],
  );
  assert.equal(await script.ask('qfThreadInfo'), 'm1,2');
  assert.equal(await script.ask('qsThreadInfo'), 'l');
  assert.equal(Buffer.from((await script.ask('qThreadExtraInfo,2'))!, 'hex').toString(), 'hart 1');
  assert.equal(await script.ask('T2'), 'OK');
  assert.equal(await script.ask('T3'), 'E03');
  assert.equal(await script.ask('Hg3'), 'E03');
  assert.equal(await script.ask('Hg2'), 'OK');
  // mhartid of the second hart.
  assert.equal(await script.ask(`p${(65 + 0xf14).toString(16)}`), little(1n));
  assert.equal(await script.ask('Hg-1'), 'OK');
  assert.equal(await script.ask(`p${(65 + 0xf14).toString(16)}`), little(0n));
  // The level of privilege, and a register that there is not.
  assert.equal(await script.ask(`p${(65 + 4096).toString(16)}`), little(3n));
  assert.equal(await script.ask('p1000'), 'E01');
  assert.equal((await script.ask('g'))!.length, 65 * 16);
  assert.equal(await script.ask('vMustReplyEmpty'), '');
  assert.equal(await script.ask('vCont?'), 'vCont;c;C;s;S;t;r');
  assert.equal(await script.ask('bs'), '');
  machine.free();
});

test('registers and memory are changed, or not at all', async () => {
  const { machine, script } = await attached();
  const before = (await script.ask('g'))!;
  const x7 = 7 * 16;
  assert.equal(await script.ask(`G${before.slice(0, x7)}${little(0xabcdn)}${before.slice(x7 + 16)}`), 'OK');
  assert.equal(machine.hartSet.getX(0, 7), 0xabcdn);
  assert.equal(await script.ask('G00'), 'E22');
  assert.equal(await script.ask(`P7=${little(5n)}`), 'OK');
  assert.equal(await script.ask('p7'), little(5n));
  assert.equal(await script.ask(`P0=${little(5n)}`), 'OK');
  assert.equal(await script.ask('p0'), little(0n));
  assert.equal(await script.ask(`P21=${little(0x3ff0n)}`), 'OK');
  assert.equal(machine.hartSet.record(0).getF(0), 0x3ff0n);
  const csr = (number: number) => (65 + number).toString(16);
  assert.equal(await script.ask(`P${csr(3)}=e5000000`), 'OK');
  assert.deepEqual([await script.ask(`p${csr(1)}`), await script.ask(`p${csr(2)}`)], ['05000000', '07000000']);
  assert.equal(await script.ask(`P${csr(0x340)}=${little(9n)}`), 'OK');
  assert.equal(await script.ask(`p${csr(0x340)}`), little(9n));
  // No hart has an odd pc, such a translation, or another identity.
  assert.equal(await script.ask(`P20=${little(RAM + 1n)}`), 'E.the register pc cannot be 0x80000001');
  assert.match((await script.ask(`P${csr(0x180)}=${little(5n << 60n)}`))!, /^E\.the register satp cannot be/);
  assert.match((await script.ask(`P${csr(0xf14)}=${little(1n)}`))!, /^E\.the register mhartid cannot be changed/);
  assert.equal(await script.ask(`P20=${'z'.repeat(16)}`), 'E22');

  assert.equal(await script.ask('m80001008,8'), '1111111111111111');
  assert.equal(await script.ask('M80001008,3:0aff23'), 'OK');
  assert.equal(await script.ask('m80001008,4'), '0aff2311');
  const bytes = Uint8Array.of(0x23, 0x24, 0x2a, 0x7d, 0);
  assert.equal(await script.ask(Uint8Array.from([...textBytes('X80001010,5:'), ...escapeBytes(bytes).bytes])), 'OK');
  assert.equal(await script.ask('m80001010,5'), '23242a7d00');
  await script.ask('x80001010,5');
  assert.deepEqual([...script.last], [0x62, ...escapeBytes(bytes).bytes]);
  assert.equal(await script.ask('X80001010,0:'), 'OK');
  assert.equal(await script.ask('M80001008,3:0aff'), 'E22');
  assert.equal(await script.ask('m1000,4'), 'E14');
  assert.match((await script.ask('M1000,1:00'))!, /^E\.there is no memory to write at 0x1000/);
  // Up to the end of RAM, and no further.
  const end = 0x8000_0000 + machine.options.memory;
  assert.equal((await script.ask(`m${(end - 2).toString(16)},8`))!.length, 4);
  assert.equal((await script.ask(`m80000000,${(MAX_PACKET * 4).toString(16)}`))!.length, MAX_PACKET);
  assert.equal(await script.ask('qSearch:memory:80000000;2000;\x44\x44\x44'), '1,80001020');
  assert.equal(await script.ask('qSearch:memory:80000000;1000;\x44\x44\x44'), '0');
  machine.free();
});

test('breakpoints, steps, a range, an interrupt', async () => {
  const { machine, script, loop, store } = await attached();
  const at = (address: bigint) => address.toString(16);
  assert.match((await script.ask('?'))!, /^T05thread:1;core:0;20:/);
  assert.equal(inStop(await script.ask('vCont;s:1'), '20'), RAM + 4n);
  assert.equal(await script.ask(`Z0,${at(loop)},4`), 'OK');
  assert.match((await script.ask('vCont;c'))!, /^T05swbreak:;thread:1;/);
  assert.equal(machine.hartSet.get(0, 'pc'), loop);
  // Nothing was written for it.
  assert.equal(await script.ask(`m${at(loop)},4`), '13031300');
  assert.equal(await script.ask(`z0,${at(loop)},4`), 'OK');
  assert.equal(await script.ask(`Z1,${at(store)},4`), 'OK');
  assert.match((await script.ask('vCont;c:-1'))!, /^T05hwbreak:;thread:1;/);
  assert.equal(await script.ask(`z1,${at(store)},4`), 'OK');
  assert.equal(machine.hartSet.getX(0, T1), 1n);
  // From the store to the loop's begin, which is outside.
  const left = await script.ask(`vCont;r${at(store)},${at(store + 8n)}:1`);
  assert.equal(inStop(left, '20'), loop);
  assert.equal(await script.ask('Z0,80000001,4'), 'E.a breakpoint is at an even address');
  assert.equal(await script.ask('Z9,80000000,4'), '');
  assert.equal(await script.ask('Z0,xyz,4'), 'E22');
  script.post('c');
  await new Promise((resolve) => setTimeout(resolve, 20));
  script.bytes('\x03');
  assert.match((await script.reply())!, /^T02thread:1;/);
  assert.ok(machine.hartSet.getX(0, T1) > 1n);
  // One that comes along with its command is not lost.
  script.bytes('$c#63\x03');
  assert.match((await script.reply())!, /^T02/);
  machine.free();
});

test('a step of a hart is one step of that hart, whoever else runs', async () => {
  const { machine, script } = await attached(3, { slice: 100 });
  let before = [machine.steps(0), machine.steps(1), machine.steps(2)];
  for (const hart of [2, 0, 0, 1, 2, 2, 1, 0]) {
    const reply = await script.ask(`vCont;s:${hart + 1}`);
    assert.match(reply!, new RegExp(`thread:${hart + 1};`));
    const after = [machine.steps(0), machine.steps(1), machine.steps(2)];
    assert.equal(after[hart], before[hart]! + 1n);
    before = after;
  }
  assert.equal(await script.ask('vCont;s:4'), 'E03');
  machine.free();
});

test('a replay is not changed', async () => {
  const { image } = counter();
  const machine = plainMachine(image);
  const script = new Script(coreTarget(machine, undefined, false));
  const refusal = /^E\.a replay's (registers|memory) cannot be changed/;
  assert.match((await script.ask(`P7=${little(5n)}`))!, refusal);
  assert.match((await script.ask(`G${'0'.repeat(65 * 16)}`))!, refusal);
  assert.match((await script.ask('M80001008,1:00'))!, refusal);
  assert.match((await script.ask('X80001008,1:a'))!, refusal);
  assert.equal(await script.ask('m80001008,1'), '11');
  machine.free();
});

test('tasks that do not run are threads by option', async () => {
  const { image } = counter();
  const machine = plainMachine(image);
  const tasks = [
    { id: 1, name: 'init', hart: 0 },
    { id: 77, name: 'a<"b>\x1bé', registers: { ra: 0x1234n, sp: 0x5678n, pc: 0x1234n } },
  ];
  const script = new Script(coreTarget(machine, tasks), { tasks: true });
  await script.ask('qXfer:threads:read::0,1000');
  const threads = bytesText(unescapeBytes(script.last)!);
  assert.ok(threads.includes('name="hart 0: init (1)"'));
  assert.ok(threads.includes('name="a&#60;&#34;b&#62;\\x1bé (77)"'));
  const id = (10_000_077).toString(16);
  assert.equal(await script.ask('qfThreadInfo'), `m1,${id}`);
  assert.equal(await script.ask(`Hg${id}`), 'OK');
  assert.equal(await script.ask('p1'), little(0x1234n));
  assert.equal(await script.ask('pa'), 'x'.repeat(16));
  assert.match((await script.ask(`P1=${little(5n)}`))!, /^E\.registers of a task that does not run/);
  assert.equal(await script.ask(`vCont;s:${id}`), `T02thread:${id};`);
  assert.match(script.said, /a<"b>\\x1bé \(77\) does not run/);
  assert.equal(machine.totalSteps, 0n);
  machine.free();
});

test('commands of a person', async () => {
  const { machine, script } = await attached();
  await script.ask('vCont;s:1');
  assert.equal(await script.monitor('when'), 'at 1\nOK');
  assert.match(
    await script.monitor('help'),
    /^when +how many steps.*\nstep-into on\|off .*\nphysical on\|off .*\nhelp .*\nOK$/,
  );
  assert.equal(await script.monitor('nothing'), 'there is no command nothing\nE01');
  assert.equal(await script.monitor('physical'), 'addresses are virtual\nOK');
  assert.equal(await script.monitor('physical on'), 'addresses are guest-physical\nOK');
  assert.equal(await script.monitor('physical maybe'), 'monitor physical on | off\nE01');
  machine.free();
});

test('the end: detached, killed, gone in the middle of a run', async () => {
  for (const [packet, reply] of [
    ['D', 'OK'],
    ['k', undefined],
    ['vKill;1', 'OK'],
    ['vDetach;1', 'OK'],
  ] as const) {
    const { machine, script, loop } = await attached();
    await script.ask(`Z0,${loop.toString(16)},4`);
    await script.ask('c');
    assert.equal(machine.breakpoints.size, 1);
    assert.equal(await script.ask(packet), reply);
    assert.ok(script.closed);
    assert.equal(machine.breakpoints.size, 0);
    machine.free();
  }
  const { machine, script } = await attached();
  script.post('c');
  await new Promise((resolve) => setImmediate(resolve));
  await script.server.close();
  const { totalSteps } = machine;
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.ok(machine.totalSteps - totalSteps <= 10_000n);
  machine.free();
});

test('any packets at all are answered', async () => {
  const { machine, script } = await attached(2, { slice: 50 });
  const word = fc.oneof(
    fc.constantFrom('g', 'G', 'p', 'P', 'm', 'M', 'x', 'X', 'Z0', 'Z1', 'z0', 'H', 'T', '?', 'vCont;s', 'vCont?'),
    fc.constantFrom(
      'qXfer:features:read:target.xml:',
      'qXfer:threads:read::',
      'qSearch:memory:',
      'qRcmd,',
      'qSupported:',
    ),
    fc.constantFrom('80000000', '80001008', ',', ';', ':', '=', '8', '0', '-1', 'ffffffffffffffff', 'g', 'c', '41'),
    fc.string({ maxLength: 6 }),
  );
  const packet = fc.array(word, { minLength: 1, maxLength: 7 }).map((words) => words.join(''));
  await fc.assert(
    fc.asyncProperty(packet, async (text) => {
      // These end the connection or run for ever.
      fc.pre(!/^([DkcCsS]|v(Kill|Detach)|vCont;(?!s))/.test(text));
      assert.notEqual(await script.ask(escapeBytes(textBytes(text)).bytes), undefined);
    }),
    runs(400),
  );
  assert.ok(!script.closed);
  machine.free();
});

test('whoever asks for the last reply without end gets it once for each time that he sends something', async () => {
  const machine = plainMachine(counter().image);
  const script = new Script(coreTarget(machine));
  const { server } = script;
  await script.ask('g');
  const transport = (server as unknown as { transport: { send(bytes: Uint8Array): void } }).transport;
  const { send } = transport;
  let bytes = 0;
  transport.send = (sent) => {
    bytes += sent.length;
  };
  server.receive(textBytes('-'.repeat(1_000_000)));
  assert.ok(bytes > 10 && bytes <= 2 * MAX_PACKET, `${bytes} bytes`);
  bytes = 0;
  server.receive(textBytes('$#'.repeat(1_000_000)));
  assert.ok(bytes <= 16, `${bytes} bytes`);
  transport.send = send;
  await server.close();
  machine.free();
});
