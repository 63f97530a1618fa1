/**
 * Devices' interrupts, case by case: what a program finds on a machine of ours, and on QEMU's `virt` where that is
 * another thing. docs/devices.md has the reasons.
 */

import { CLINT, type DeviceAccesses, PLIC, RING, RTC, SOURCES, UART, VIRTIO } from './device-access.ts';

export interface DeviceCase {
  readonly name: string;
  /** Adds the case's steps to a program. */
  run(program: DeviceAccesses): void;
  /** The steps' records, as `recordText` has them. */
  readonly expected: readonly string[];
  /** Where QEMU 7.2 does otherwise. */
  readonly qemu?: readonly string[];
}

const S0 = 1;
const { uart, rtc, virtio } = SOURCES;
const put = (p: DeviceAccesses, register: number, value: number) => p.store(UART + register, value, 'sb');
const get = (p: DeviceAccesses, register: number) => p.load(UART + register, 'lbu');

/** The serial port with its transmitter's interrupt enabled, and served once. */
function transmitterServed(p: DeviceAccesses): void {
  p.quiet();
  p.enable(uart);
  put(p, 1, 2);
  p.record('the transmitter interrupts', S0);
}

export const DEVICE_CASES: readonly DeviceCase[] = [
  {
    name: 'a driver that never reads IIR is interrupted once for each byte that it sends',
    run(p) {
      transmitterServed(p);
      p.complete(S0, uart);
      p.record('completed');
      put(p, 0, 0x41);
      p.record('a byte is sent', S0);
      p.complete(S0, uart);
      p.record('completed');
    },
    expected: ['0 a00 400 a', '0 0 0 0', '0 a00 400 a', '0 0 0 0'],
  },
  {
    name: 'bytes that are sent during a service make one request after it, though IIR clears their cause',
    run(p) {
      transmitterServed(p);
      put(p, 0, 0x41);
      put(p, 0, 0x42);
      get(p, 2);
      p.record('two bytes are sent, IIR is read');
      p.complete(S0, uart);
      p.record('completed', S0);
      p.complete(S0, uart);
      p.record('completed again');
    },
    expected: ['0 a00 400 a', '2 0 400 0', '0 a00 400 a', '0 0 0 0'],
  },
  {
    name: 'a request outlives its cause until it is claimed',
    run(p) {
      p.quiet();
      p.enable(uart);
      put(p, 1, 2);
      get(p, 2);
      p.record('IIR is read');
      put(p, 1, 0);
      p.record('the interrupt is disabled', S0);
      p.record('and has been claimed');
    },
    expected: ['2 a00 400 0', '0 a00 400 a', '0 0 0 0'],
  },
  {
    name: 'a level that stays high makes no request, until the device looks at it anew',
    run(p) {
      p.quiet();
      p.enable(rtc);
      p.store(RTC + 0x10, 1);
      p.store(RTC + 0xc, 0);
      p.store(RTC + 8, 1);
      p.record('the alarm goes off', S0);
      p.complete(S0, rtc);
      p.record('completed');
      p.store(RTC + 0x10, 1);
      p.record('the interrupt is enabled once more', S0);
      p.store(RTC + 0x1c, 1);
      p.complete(S0, rtc);
      p.record('cleared and completed');
    },
    expected: ['0 a00 800 b', '0 0 0 0', '0 a00 800 b', '0 0 0 0'],
  },
  {
    name: 'a partly acknowledged virtio device asks again',
    run(p) {
      p.quiet();
      p.enable(virtio);
      p.startEntropy();
      p.record('started');
      p.askEntropy();
      p.load(VIRTIO + 0x60);
      p.record('served', S0);
      p.store(VIRTIO + 0x64, 2);
      p.complete(S0, virtio);
      p.load(VIRTIO + 0x60);
      p.record('another cause is acknowledged', S0);
      p.store(VIRTIO + 0x64, 1);
      p.complete(S0, virtio);
      p.load(VIRTIO + 0x60);
      p.record('this one is acknowledged');
    },
    expected: ['f 0 0 0', '1 a00 80 7', '1 a00 80 7', '0 0 0 0'],
  },
  {
    name: 'a reset of a virtio device leaves its request',
    run(p) {
      p.quiet();
      p.enable(virtio);
      p.startEntropy();
      p.askEntropy();
      p.store(VIRTIO + 0x70, 0);
      p.load(VIRTIO + 0x60);
      p.record('reset', S0);
      p.complete(S0, virtio);
      p.record('completed');
    },
    expected: ['0 a00 80 7', '0 0 0 0'],
  },
  {
    name: 'any context completes a service',
    run(p) {
      transmitterServed(p);
      put(p, 0, 0x41);
      p.enableAt(0);
      p.complete(0, uart);
      p.record('a context that has not enabled the source completes');
    },
    expected: ['0 a00 400 a', '0 200 400 0'],
  },
  {
    name: 'clearing the transmitter, or turning FIFOs on, makes its interrupt pending',
    run(p) {
      p.quiet();
      put(p, 1, 2);
      get(p, 2);
      p.record('IIR is read');
      put(p, 2, 1);
      get(p, 2);
      p.record('FIFOs are turned on');
      get(p, 2);
      p.record('IIR is read');
      put(p, 2, 5);
      get(p, 2);
      p.record('the transmitter is cleared');
    },
    expected: ['2 0 400 0', 'c2 0 400 0', 'c1 0 400 0', 'c2 0 400 0'],
  },
  {
    name: 'an overrun without FIFOs keeps the last byte',
    run(p) {
      p.quiet();
      put(p, 4, 0x10);
      put(p, 0, 0x11);
      put(p, 0, 0x22);
      get(p, 5);
      p.record('LSR');
      get(p, 0);
      p.record('RBR');
    },
    expected: ['63 0 0 0', '22 0 0 0'],
  },
  {
    name: 'the order of causes in IIR',
    run(p) {
      p.quiet();
      put(p, 4, 0x10);
      put(p, 1, 7);
      put(p, 0, 0x11);
      put(p, 0, 0x22);
      for (const [register, name] of [
        [2, 'IIR'],
        [5, 'LSR'],
        [2, 'IIR'],
        [0, 'RBR'],
        [2, 'IIR'],
        [2, 'IIR'],
      ] as const) {
        get(p, register);
        p.record(name);
      }
    },
    expected: ['6 0 400 0', '63 0 400 0', '4 0 400 0', '22 0 400 0', '2 0 400 0', '1 0 400 0'],
  },
  // --- What is another thing on QEMU
  {
    name: 'a claim below the threshold',
    run(p) {
      p.quiet();
      p.enable(uart);
      p.store(PLIC + 0x20_1000, 7);
      put(p, 1, 2);
      p.record('the transmitter interrupts', S0);
    },
    expected: ['0 800 400 a'],
    qemu: ['0 800 400 0'],
  },
  {
    name: 'enable bits that are written',
    run(p) {
      p.quiet();
      p.store(PLIC + 4 * uart, 1);
      put(p, 1, 2);
      p.store(PLIC + 0x2080, 1 << uart);
      p.record('enabled');
      p.complete(S0, 0);
      p.record('a completion of nothing');
    },
    expected: ['0 200 400 0', '0 200 400 0'],
    qemu: ['0 0 400 0', '0 200 400 0'],
  },
  {
    name: 'source 0',
    run(p) {
      p.quiet();
      p.store(PLIC, 7);
      p.load(PLIC);
      p.record('its priority');
      p.store(PLIC + 0x2080, 1);
      p.load(PLIC + 0x2080);
      p.record('its enable bit');
    },
    expected: ['0 0 0 0', '0 0 0 0'],
    qemu: ['0 0 0 0', '1 0 0 0'],
  },
  {
    name: 'changes of the modem lines in loopback',
    run(p) {
      p.quiet();
      p.enable(uart);
      put(p, 1, 8);
      put(p, 4, 0x10);
      get(p, 2);
      p.record('loopback', S0);
      get(p, 6);
      p.record('MSR');
      get(p, 6);
      p.record('MSR once more');
    },
    expected: ['0 a00 400 a', 'b 0 0 0', '0 0 0 0'],
    qemu: ['1 0 0 0', '0 0 0 0', '0 0 0 0'],
  },
  {
    name: 'out of reset',
    run(p) {
      get(p, 4);
      p.record('MCR');
      p.load(CLINT + 0x4000, 'ld');
      p.record('mtimecmp');
      for (const register of [1, 2, 3, 5, 6, 7]) {
        get(p, register);
        p.record(`serial port ${register}`);
      }
      put(p, 3, 0x80);
      get(p, 0);
      p.record('divisor');
    },
    expected: [
      '0 0 0 0',
      'ffffffffffffffff 0 0 0',
      '0 0 0 0',
      '1 0 0 0',
      '0 0 0 0',
      '60 0 0 0',
      'b0 0 0 0',
      '0 0 0 0',
      'c 0 0 0',
    ],
    qemu: [
      '8 80 0 0',
      '0 80 0 0',
      '0 80 0 0',
      '1 80 0 0',
      '0 80 0 0',
      '60 80 0 0',
      'b0 80 0 0',
      '0 80 0 0',
      'c 80 0 0',
    ],
  },
  {
    name: 'the FIFO control register written without its enable bit',
    run(p) {
      p.quiet();
      put(p, 4, 0x10);
      put(p, 0, 0x11);
      put(p, 2, 6);
      get(p, 5);
      p.record('LSR');
    },
    expected: ['61 0 0 0'],
    qemu: ['60 0 0 0'],
  },
  {
    name: 'an empty receiver without FIFOs',
    run(p) {
      p.quiet();
      put(p, 4, 0x10);
      put(p, 0, 0x11);
      get(p, 0);
      p.record('the byte');
      get(p, 0);
      p.record('once more');
    },
    expected: ['11 0 0 0', '0 0 0 0'],
    qemu: ['11 0 0 0', '11 0 0 0'],
  },
  {
    name: 'bytes below the trigger level',
    run(p) {
      p.quiet();
      p.enable(uart);
      put(p, 2, 0xc1);
      put(p, 1, 1);
      put(p, 4, 0x10);
      put(p, 0, 0x11);
      get(p, 2);
      p.record('at once');
      p.wait(200);
      get(p, 2);
      p.record('after the time of four characters', S0);
    },
    expected: ['cc a00 400 0', 'cc a00 400 a'],
    qemu: ['c1 0 0 0', 'cc a00 400 a'],
  },
  {
    name: 'the time is set to after the alarm',
    run(p) {
      p.quiet();
      p.enable(rtc);
      p.store(RTC + 0x10, 1);
      p.store(RTC + 0xc, 0x7000_0000);
      p.store(RTC + 8, 0);
      p.store(RTC + 4, 0x7000_0001);
      p.load(RTC + 0x18);
      p.record('armed', S0);
    },
    expected: ['0 a00 800 b'],
    qemu: ['1 0 0 0'],
  },
  {
    name: 'the first request of a virtio device that was to interrupt for a later one',
    run(p) {
      p.quiet();
      p.enable(virtio);
      p.startEntropy(1 << 29);
      p.store(RING.driver + 20, 1);
      p.askEntropy();
      p.load(VIRTIO + 0x60);
      p.record('the first request', S0);
    },
    expected: ['0 0 0 0'],
    qemu: ['1 a00 80 7'],
  },
  {
    name: 'a driver that makes more available than its queue has',
    run(p) {
      p.quiet();
      p.enable(virtio);
      p.startEntropy();
      p.store(RING.driver + 2, 100, 'sh');
      p.store(VIRTIO + 0x50, 0);
      p.wait(20);
      p.load(VIRTIO + 0x60);
      p.record('causes', S0);
      p.load(VIRTIO + 0x70);
      p.record('status');
    },
    expected: ['2 a00 80 7', '4f 0 0 0'],
    qemu: ['3 a00 80 7', '4f 0 0 0'],
  },
];
