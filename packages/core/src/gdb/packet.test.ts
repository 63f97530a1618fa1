/** Packets: what is written is read back, whatever is in between; and no bytes do harm. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { runs } from '../testing/machines.ts';
import {
  bytesOfHex,
  escapeBytes,
  frame,
  hexOf,
  type Incoming,
  MAX_PACKET,
  PacketReader,
  textBytes,
  unescapeBytes,
} from './packet.ts';

const packets = (items: readonly Incoming[]) => items.flatMap((item) => (item.kind === 'packet' ? [item.payload] : []));
/** Bytes with many runs and many that have to be escaped. */
const data = fc
  .array(fc.tuple(fc.oneof(fc.constantFrom(0x23, 0x24, 0x2a, 0x7d, 0x30, 3), fc.nat(255)), fc.nat(130)), {
    maxLength: 40,
  })
  .map((parts) => Uint8Array.from(parts.flatMap(([byte, count]) => new Array<number>(count).fill(byte))));

test('what the manual shows', () => {
  assert.equal(new TextDecoder().decode(frame(textBytes('OK'))), '$OK#9a');
  // Four zeros: three repeats are a space; seven are said as five and two.
  assert.equal(new TextDecoder().decode(frame(textBytes('0000'))), '$0* #7a');
  assert.equal(new TextDecoder().decode(frame(textBytes('00000000'))), '$0*"00#dc');
  assert.deepEqual([...escapeBytes(Uint8Array.of(0x7d, 0x23, 1)).bytes], [0x7d, 0x5d, 0x7d, 0x03, 1]);
  assert.equal(hexOf(bytesOfHex('00fF10')!), '00ff10');
  assert.equal(bytesOfHex('0'), undefined);
  assert.equal(bytesOfHex('zz'), undefined);
});

test('binary data goes there and back, in pieces of any size', () => {
  fc.assert(
    fc.property(fc.array(data, { maxLength: 4 }), fc.integer({ min: 1, max: 50 }), (payloads, size) => {
      const stream = payloads.flatMap((payload) => [...frame(escapeBytes(payload).bytes)]);
      const reader = new PacketReader();
      const found: Uint8Array[] = [];
      for (let at = 0; at < stream.length; at += size) {
        found.push(...packets(reader.push(Uint8Array.from(stream.slice(at, at + size)))));
      }
      assert.deepEqual(
        found.map((payload) => [...unescapeBytes(payload)!]),
        payloads.map((payload) => [...payload]),
      );
      for (const byte of stream.slice(0, -2))
        assert.ok(byte < 127 || payloads.some((payload) => payload.includes(byte)));
    }),
    runs(200),
  );
});

test('as much as there is room for is escaped', () => {
  fc.assert(
    fc.property(data, fc.nat(60), (payload, room) => {
      const { bytes, taken } = escapeBytes(payload, room);
      assert.ok(bytes.length <= room);
      assert.deepEqual([...unescapeBytes(bytes)!], [...payload.subarray(0, taken)]);
      if (taken < payload.length) assert.ok(bytes.length >= room - 1);
    }),
    runs(200),
  );
});

test('a damaged packet is bad and the next one is good', () => {
  fc.assert(
    fc.property(data, fc.nat(), fc.integer({ min: 1, max: 255 }), (payload, where, flip) => {
      const sent = frame(escapeBytes(payload).bytes);
      const at = where % sent.length;
      const damaged = sent.slice();
      damaged[at]! ^= flip;
      const reader = new PacketReader();
      const found = reader.push(damaged);
      // A flipped letter case of the checksum is still the checksum.
      const same = at >= sent.length - 2 && flip === 0x20;
      for (const one of packets(found)) {
        assert.ok(same || found.length > 1 || at < sent.length - 3, 'a packet in spite of the damage');
        if (!same) assert.notDeepEqual([...one], [...escapeBytes(payload).bytes]);
      }
      // Two ends, since the first may be within what the damage has opened.
      reader.push(textBytes('#00'));
      assert.deepEqual(packets(reader.push(frame(textBytes('g')))).map(hexOf), ['67']);
    }),
    runs(300),
  );
});

test('a packet longer than allowed is bad, and holds no memory', () => {
  const reader = new PacketReader();
  const long = textBytes(`$${'ab'.repeat(MAX_PACKET)}`);
  assert.deepEqual(reader.push(long), []);
  assert.deepEqual(reader.push(textBytes('#00')), [{ kind: 'bad' }]);
  assert.deepEqual(packets(reader.push(textBytes('$?#3f'))).map(hexOf), ['3f']);
  // Runs do not get around it.
  const runsOnly = textBytes(`0${'*~'.repeat(MAX_PACKET / 90)}`);
  const sum = runsOnly
    .reduce((total, byte) => (total + byte) & 255, 0)
    .toString(16)
    .padStart(2, '0');
  assert.deepEqual(reader.push(textBytes(`$${new TextDecoder().decode(runsOnly)}#${sum}`)), [{ kind: 'bad' }]);
});

test('any bytes at all are read', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 10 }), (pieces) => {
      const reader = new PacketReader();
      for (const piece of pieces) {
        for (const item of reader.push(piece)) {
          assert.ok(['packet', 'bad', 'ack', 'nack', 'interrupt'].includes(item.kind));
          if (item.kind === 'packet') assert.ok(item.payload.length <= MAX_PACKET);
        }
      }
    }),
    runs(500),
  );
});
