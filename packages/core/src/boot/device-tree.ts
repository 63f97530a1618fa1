/**
 * The device tree: an encoder of the flattened format (Devicetree Specification 0.4, chapter 5) and the tree of this
 * platform, which is that of QEMU's `virt` machine with the devices that Braid has.
 */

/** Where things are: the map of QEMU's `virt`. Addresses and sizes in bytes. */
export const PLATFORM = {
  test: { base: 0x10_0000, size: 0x1000 },
  rtc: { base: 0x10_1000, size: 0x1000, irq: 11 },
  clint: { base: 0x200_0000, size: 0x1_0000 },
  plic: { base: 0xc00_0000, size: 0x60_0000, sources: 95 },
  uart: { base: 0x1000_0000, size: 0x100, irq: 10, clock: 3_686_400 },
  /** Slot n is at `base + n * stride` with interrupt `irq + n`. */
  virtio: { base: 0x1000_1000, size: 0x1000, stride: 0x1000, irq: 1, slots: 8 },
  ram: { base: 0x8000_0000 },
  /** Ticks of `time` a second. */
  timebase: 10_000_000,
} as const;

/** A property: nothing, text, texts, a cell, cells, a 64-bit number, or bytes. */
export type TreeValue = true | string | readonly string[] | number | readonly number[] | bigint | Uint8Array;

export interface TreeNode {
  readonly name: string;
  readonly properties: Readonly<Record<string, TreeValue>>;
  readonly children: readonly TreeNode[];
}

/** A node with its properties and its children, in the order in which they are encoded. */
export function node(
  name: string,
  properties: Readonly<Record<string, TreeValue>>,
  children: readonly TreeNode[] = [],
): TreeNode {
  return { name, properties, children };
}

const BEGIN_NODE = 1;
const END_NODE = 2;
const PROP = 3;
const END = 9;

/**
 * Encodes a tree as a version 17 blob, its length a multiple of 8:
 *
 *     header (40 bytes) | memory reservations (one empty entry, 16 bytes) | structure | strings
 */
export function encodeTree(root: TreeNode): Uint8Array {
  const structure = new Writer();
  const strings = new Writer();
  const offsets = new Map<string, number>();
  const emit = (tree: TreeNode) => {
    structure.cell(BEGIN_NODE);
    structure.text(tree.name);
    structure.align(4);
    for (const [name, value] of Object.entries(tree.properties)) {
      let offset = offsets.get(name);
      if (offset === undefined) {
        offset = strings.length;
        offsets.set(name, offset);
        strings.text(name);
      }
      const bytes = encodeValue(value);
      structure.cell(PROP);
      structure.cell(bytes.length);
      structure.cell(offset);
      structure.bytes(bytes);
      structure.align(4);
    }
    for (const child of tree.children) emit(child);
    structure.cell(END_NODE);
  };
  emit(root);
  structure.cell(END);

  const blob = new Writer();
  const structureAt = 40 + 16;
  const stringsAt = structureAt + structure.length;
  const total = (stringsAt + strings.length + 7) & ~7;
  const header = [0xd00dfeed, total, structureAt, stringsAt, 40, 17, 16, 0, strings.length, structure.length];
  for (const field of header) blob.cell(field);
  for (let i = 0; i < 4; i++) blob.cell(0);
  blob.bytes(structure.taken());
  blob.bytes(strings.taken());
  blob.align(8);
  return blob.taken().slice();
}

function encodeValue(value: TreeValue): Uint8Array {
  if (value instanceof Uint8Array) return value;
  const out = new Writer();
  if (typeof value === 'string') out.text(value);
  else if (typeof value === 'number') out.cell(value);
  else if (typeof value === 'bigint') {
    out.cell(Number(value >> 32n));
    out.cell(Number(value & 0xffffffffn));
  } else if (value !== true) {
    for (const item of value) {
      if (typeof item === 'string') out.text(item);
      else out.cell(item);
    }
  }
  return out.taken();
}

/** Bytes appended one after another, numbers big-endian. */
class Writer {
  length = 0;
  #buffer = new Uint8Array(256);

  bytes(data: Uint8Array): void {
    this.#reserve(data.length);
    this.#buffer.set(data, this.length);
    this.length += data.length;
  }

  cell(value: number): void {
    this.#reserve(4);
    new DataView(this.#buffer.buffer).setUint32(this.length, value);
    this.length += 4;
  }

  /** Text and the zero that ends it. */
  text(value: string): void {
    this.bytes(new TextEncoder().encode(`${value}\0`));
  }

  align(to: number): void {
    this.bytes(new Uint8Array(-this.length & (to - 1)));
  }

  taken(): Uint8Array {
    return this.#buffer.subarray(0, this.length);
  }

  #reserve(more: number): void {
    if (this.length + more <= this.#buffer.length) return;
    const larger = new Uint8Array(Math.max(this.#buffer.length * 2, this.length + more));
    larger.set(this.taken());
    this.#buffer = larger;
  }
}

export interface PlatformTreeConfig {
  /** Bytes of RAM. */
  readonly memory: number;
  readonly harts: number;
  /**
   * Who reads the tree. `supervisor`: an operating system in S-mode above the monitor's SBI; what belongs to M-mode is left out
   * or disabled, as OpenSBI does before it hands its tree on. `machine`: firmware or a program in M-mode, which gets all of it.
   */
  readonly reader: 'supervisor' | 'machine';
  readonly bootargs?: string;
  /** The initial RAM disk's first address and the one after its last. */
  readonly initrd?: { readonly start: number; readonly end: number };
  /** What the kernel seeds its random number generator with before it has a device for that: 32 bytes. */
  readonly rngSeed?: Uint8Array;
}

const EXTENSIONS = [
  'i',
  'm',
  'a',
  'f',
  'd',
  'c',
  'zicbom',
  'zicboz',
  'zicntr',
  'zicond',
  'zicsr',
  'zifencei',
  'zihintpause',
  'zba',
  'zbb',
  'zbs',
  'sstc',
  // Without svade beside it: hardware sets accessed and dirty flags until somebody says otherwise (binding riscv/extensions.yaml).
  'svadu',
];
const CACHE_BLOCK = 64;

// Interrupts of a hart, by their number in `mip` (privileged specification, "Machine Interrupt Registers").
const MACHINE_SOFTWARE = 3;
const MACHINE_TIMER = 7;
const SUPERVISOR_EXTERNAL = 9;
const MACHINE_EXTERNAL = 11;
/** Marks a PLIC context that is not for the reader of the tree (binding sifive,plic-1.0.0). */
const NO_INTERRUPT = 0xffffffff;

// Handles by which nodes refer to each other: any numbers that differ.
const CPU_HANDLE = 0x01;
const INTC_HANDLE = 0x11;
const PLIC_HANDLE = 0x21;
const TEST_HANDLE = 0x22;

/** The device tree of the platform, encoded. */
export function platformTree(config: PlatformTreeConfig): Uint8Array {
  const harts = Array.from({ length: config.harts }, (_, i) => i);
  const supervisor = config.reader === 'supervisor';
  const single = EXTENSIONS.filter((name) => name.length === 1).join('');
  const rest = EXTENSIONS.filter((name) => name.length > 1);
  const { test, rtc, clint, plic, uart, virtio, ram } = PLATFORM;
  const window = (device: { base: number; size: number }) => [0, device.base, 0, device.size];
  const at = (name: string, base: number) => `${name}@${base.toString(16)}`;
  const wired = (irq: number) => ({ 'interrupt-parent': PLIC_HANDLE, interrupts: irq });

  const chosen: Record<string, TreeValue> = {};
  if (config.bootargs !== undefined) chosen.bootargs = config.bootargs;
  chosen['stdout-path'] = `/soc/${at('serial', uart.base)}`;
  if (config.initrd !== undefined) {
    chosen['linux,initrd-start'] = BigInt(config.initrd.start);
    chosen['linux,initrd-end'] = BigInt(config.initrd.end);
  }
  if (config.rngSeed !== undefined) chosen['rng-seed'] = config.rngSeed;

  const cpus = harts.map((hart) =>
    node(
      `cpu@${hart}`,
      {
        phandle: CPU_HANDLE + hart,
        device_type: 'cpu',
        reg: hart,
        status: 'okay',
        compatible: 'riscv',
        'riscv,isa': [`rv64${single}`, ...rest].join('_'),
        'riscv,isa-base': 'rv64i',
        'riscv,isa-extensions': EXTENSIONS,
        'riscv,cbom-block-size': CACHE_BLOCK,
        'riscv,cboz-block-size': CACHE_BLOCK,
        'mmu-type': 'riscv,sv48',
      },
      [
        node('interrupt-controller', {
          phandle: INTC_HANDLE + hart,
          '#interrupt-cells': 1,
          'interrupt-controller': true,
          compatible: 'riscv,cpu-intc',
        }),
      ],
    ),
  );
  const cores = harts.map((hart) => node(`core${hart}`, { cpu: CPU_HANDLE + hart }));

  // Contexts alternate: 2n is hart n's machine mode, 2n + 1 its supervisor mode.
  const contexts = harts.flatMap((hart) => [
    INTC_HANDLE + hart,
    supervisor ? NO_INTERRUPT : MACHINE_EXTERNAL,
    INTC_HANDLE + hart,
    SUPERVISOR_EXTERNAL,
  ]);
  const timers = harts.flatMap((hart) => [INTC_HANDLE + hart, MACHINE_SOFTWARE, INTC_HANDLE + hart, MACHINE_TIMER]);

  const soc = [
    node(at('test', test.base), {
      phandle: TEST_HANDLE,
      compatible: ['sifive,test1', 'sifive,test0', 'syscon'],
      reg: window(test),
    }),
    node(at('rtc', rtc.base), { compatible: 'google,goldfish-rtc', reg: window(rtc), ...wired(rtc.irq) }),
    ...(supervisor
      ? []
      : [
          node(at('clint', clint.base), {
            compatible: ['sifive,clint0', 'riscv,clint0'],
            reg: window(clint),
            'interrupts-extended': timers,
          }),
        ]),
    node(at('plic', plic.base), {
      phandle: PLIC_HANDLE,
      compatible: ['sifive,plic-1.0.0', 'riscv,plic0'],
      reg: window(plic),
      'riscv,ndev': plic.sources,
      'interrupts-extended': contexts,
      'interrupt-controller': true,
      '#address-cells': 0,
      '#interrupt-cells': 1,
    }),
    node(at('serial', uart.base), {
      compatible: 'ns16550a',
      reg: window(uart),
      'clock-frequency': uart.clock,
      ...wired(uart.irq),
    }),
    ...Array.from({ length: virtio.slots }, (_, slot) => {
      const base = virtio.base + slot * virtio.stride;
      return node(at('virtio_mmio', base), {
        compatible: 'virtio,mmio',
        reg: window({ base, size: virtio.size }),
        ...wired(virtio.irq + slot),
      });
    }),
  ];

  return encodeTree(
    node('', { '#address-cells': 2, '#size-cells': 2, compatible: 'riscv-virtio', model: 'riscv-virtio,braid' }, [
      node('chosen', chosen),
      node('aliases', { serial0: `/soc/${at('serial', uart.base)}` }),
      node(at('memory', ram.base), {
        device_type: 'memory',
        reg: [0, ram.base, Math.floor(config.memory / 2 ** 32), config.memory % 2 ** 32],
      }),
      node('cpus', { '#address-cells': 1, '#size-cells': 0, 'timebase-frequency': PLATFORM.timebase }, [
        ...cpus,
        node('cpu-map', {}, [node('cluster0', {}, cores)]),
      ]),
      node('soc', { '#address-cells': 2, '#size-cells': 2, compatible: 'simple-bus', ranges: true }, soc),
      node('poweroff', { compatible: 'syscon-poweroff', regmap: TEST_HANDLE, offset: 0, value: 0x5555 }),
      node('reboot', { compatible: 'syscon-reboot', regmap: TEST_HANDLE, offset: 0, value: 0x7777 }),
    ]),
  );
}
