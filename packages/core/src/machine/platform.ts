/** The devices of a machine, wired as QEMU's `virt` machine wires them. */

import { PLATFORM } from '../boot/device-tree.ts';
import { Clint } from '../devices/clint/device.ts';
import type { Device, DeviceContext, DmaMemory } from '../devices/device.ts';
import { Finisher } from '../devices/finisher/device.ts';
import { Plic } from '../devices/plic/device.ts';
import { Rtc } from '../devices/rtc/device.ts';
import { Uart } from '../devices/uart/device.ts';
import { EmptySlot } from '../devices/virtio/empty.ts';
import { VirtioBlock } from '../devices/virtio-block/device.ts';
import { VirtioConsole } from '../devices/virtio-console/device.ts';
import { VirtioEntropy } from '../devices/virtio-entropy/device.ts';
import { VirtioNet } from '../devices/virtio-net/device.ts';
import { Bus, type Window } from './bus.ts';
import { type Configuration, type Exit, MachineError } from './options.ts';
import { WrittenBackend } from './written.ts';

/** What the devices reach of their machine. */
export interface PlatformHost {
  readonly memory: DmaMemory;
  now(): bigint;
  ticks(): bigint;
  setTime(ticks: bigint): void;
  /** Sets or clears bits of a hart's mip. */
  setPending(hart: number, bits: bigint, level: boolean): void;
  /** The supervisor external line, which is not a bit that software owns. */
  setSupervisorExternal(hart: number, level: boolean): void;
  finish(exit: Exit): void;
  /** The host has done work for the guest, in units of `Account`. */
  worked(units: number): void;
  console(bytes: Uint8Array): void;
  port(port: number, bytes: Uint8Array): void;
  frame(bytes: Uint8Array): void;
  /** Has a device work whole, or not at all. */
  whole<T>(device: Device, work: () => T): T;
}

const MSIP = 1n << 3n;
const MTIP = 1n << 7n;
const MEIP = 1n << 11n;
const DISK_SLOTS = PLATFORM.virtio.slots - 3;
const DEFAULT_MAC = '52:54:00:12:34:56';

export class Platform {
  readonly uart: Uart;
  readonly plic: Plic;
  readonly clint: Clint;
  readonly rtc: Rtc;
  readonly finisher: Finisher;
  readonly console: VirtioConsole;
  readonly entropy: VirtioEntropy;
  readonly net: VirtioNet;
  readonly disks: readonly VirtioBlock[];
  readonly backends: readonly WrittenBackend[];
  readonly bus: Bus;
  /** By name, in a fixed order: for saving, hashing and deadlines. */
  readonly devices: ReadonlyMap<string, Device>;

  private readonly host: PlatformHost;

  constructor(options: Configuration, host: PlatformHost) {
    this.host = host;
    const disks = options.disks ?? [];
    if (disks.length > DISK_SLOTS) {
      throw new MachineError(`${disks.length} disks: there is room for ${DISK_SLOTS}`);
    }
    this.plic = new Plic({
      harts: options.harts,
      setExternal: (hart, mode, level) =>
        mode === 'M' ? host.setPending(hart, MEIP, level) : host.setSupervisorExternal(hart, level),
    });
    this.clint = new Clint({
      harts: options.harts,
      now: () => host.now(),
      ticks: () => host.ticks(),
      setTime: (ticks) => host.setTime(ticks),
      setSoftware: (hart, level) => host.setPending(hart, MSIP, level),
      setTimer: (hart, level) => host.setPending(hart, MTIP, level),
    });
    const context = (irq: number): DeviceContext => ({
      memory: host.memory,
      now: () => host.now(),
      interrupt: (level) => this.plic.setLevel(irq, level),
      worked: (units) => host.worked(units),
    });
    this.uart = new Uart(context(PLATFORM.uart.irq), (bytes) => host.console(bytes));
    this.rtc = new Rtc(context(PLATFORM.rtc.irq), options.epoch ?? 0n);
    this.finisher = new Finisher((finish) => host.finish(finish));
    const { base, stride, size, irq, slots } = PLATFORM.virtio;
    const slot = (n: number) => context(irq + n);
    // Linux names disks in the order of their slots.
    this.backends = disks.map((disk) => new WrittenBackend(disk.backend));
    this.disks = disks.map((disk, n) => {
      const serial = disk.serial === undefined ? {} : { serial: disk.serial };
      return new VirtioBlock(slot(n), this.backends[n]!, serial);
    });
    const rest = DISK_SLOTS;
    this.console = new VirtioConsole(slot(rest), {
      output: (port, bytes) => host.port(port, bytes),
    });
    this.entropy = new VirtioEntropy(slot(rest + 1), options.seed);
    this.net = new VirtioNet(
      slot(rest + 2),
      { send: (frame) => host.frame(frame) },
      {
        mac: options.net?.mac ?? DEFAULT_MAC,
      },
    );
    if (!options.net) this.net.setLink(false);
    const inSlots: Device[] = [...this.disks];
    while (inSlots.length < rest) inSlots.push(new EmptySlot());
    inSlots.push(this.console, this.entropy, this.net);
    const windows: Window[] = inSlots.slice(0, slots).map((device, n) => ({ base: base + n * stride, size, device }));
    const named: [string, { base: number; size: number }, Device][] = [
      ['finisher', PLATFORM.test, this.finisher],
      ['rtc', PLATFORM.rtc, this.rtc],
      ['clint', PLATFORM.clint, this.clint],
      ['uart', PLATFORM.uart, this.uart],
    ];
    for (const [, at, device] of named) windows.push({ base: at.base, size: at.size, device });
    windows.push({ base: PLATFORM.plic.base, size: PLATFORM.plic.size, device: this.plic });
    this.bus = new Bus(windows);
    this.devices = new Map<string, Device>([
      ...named.map(([name, , device]) => [name, device] as const),
      ['console', this.console],
      ['entropy', this.entropy],
      ['net', this.net],
      ...this.disks.map((disk, n) => [`disk${n}`, disk] as const),
      // Last: devices that are restored report their lines, and what becomes of that is part of this record.
      ['plic', this.plic],
    ]);
  }

  /** Guest time of the next thing that a device does by itself. */
  deadline(): bigint | undefined {
    let next: bigint | undefined;
    for (const device of this.devices.values()) {
      const due = device.deadline();
      if (due !== undefined && (next === undefined || due < next)) next = due;
    }
    return next;
  }

  /** Does what is due. A promise: the host's data for a device is late. */
  advance(now: bigint): Promise<void> | undefined {
    // Timer lines follow the time by level: one that has come is no deadline any more.
    this.clint.advance(now);
    for (const device of this.devices.values()) {
      const due = device.deadline();
      if (due !== undefined && due <= now) {
        // What a disk has done is on the host's disk: it works request by request.
        const late =
          device instanceof VirtioBlock ? device.advance(now) : this.host.whole(device, () => device.advance(now));
        if (late) return late;
      }
    }
    return undefined;
  }
}
