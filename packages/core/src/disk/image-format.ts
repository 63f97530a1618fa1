/**
 * Which format an image is in, by the marks that its specification puts at fixed places. A disk here is raw: whatever else an image
 * is, its bytes are no disk's, and a guest that wrote to it would destroy it.
 */

/** What is packed: a disk comes out of it, and not a disk's format. */
interface Packed {
  readonly name: string;
  /** What unpacks FILE, and leaves it as it is. */
  readonly unpack: string;
}

/** A format of disks, by its name for `qemu-img convert -f`. */
interface Format {
  readonly name: string;
  readonly convert: string;
}

export type ImageFormat = Packed | Format;

/** Bytes at the start of an image that hold all marks there, and at its end. */
export const HEAD_BYTES = 512;
export const TAIL_BYTES = 512;

const VHD = { name: 'VHD', convert: 'vpc' };
const VMDK = { name: 'VMDK', convert: 'vmdk' };
const PARALLELS = { name: 'Parallels', convert: 'parallels' };

const HEADS: readonly { readonly at: number; readonly mark: string; readonly format: ImageFormat }[] = [
  { at: 0, mark: 'QFI\xfb', format: { name: 'qcow2', convert: 'qcow2' } },
  { at: 0, mark: 'QED\0', format: { name: 'QED', convert: 'qed' } },
  { at: 0, mark: 'vhdxfile', format: { name: 'VHDX', convert: 'vhdx' } },
  // A dynamic one begins with a copy of its footer.
  { at: 0, mark: 'conectix', format: VHD },
  { at: 0, mark: 'KDMV', format: VMDK },
  { at: 0, mark: 'COWD', format: VMDK },
  { at: 0, mark: '# Disk DescriptorFile', format: VMDK },
  { at: 0, mark: 'WithoutFreeSpace', format: PARALLELS },
  { at: 0, mark: 'WithouFreSpacExt', format: PARALLELS },
  { at: 0x40, mark: '\x7f\x10\xda\xbe', format: { name: 'VDI', convert: 'vdi' } },
  { at: 0, mark: '\x1f\x8b\x08', format: { name: 'gzip', unpack: 'gzip -dc' } },
  { at: 0, mark: '\xfd7zXZ\0', format: { name: 'xz', unpack: 'xz -dc' } },
  { at: 0, mark: '\x28\xb5\x2f\xfd', format: { name: 'zstd', unpack: 'zstd -dc' } },
  { at: 0, mark: 'BZh', format: { name: 'bzip2', unpack: 'bzip2 -dc' } },
  { at: 0, mark: '\x04\x22\x4d\x18', format: { name: 'lz4', unpack: 'lz4 -dc' } },
  { at: 0, mark: '\x89LZO\0\r\n\x1a\n', format: { name: 'lzop', unpack: 'lzop -dc' } },
  { at: 0, mark: '7z\xbc\xaf\x27\x1c', format: { name: '7-Zip', unpack: '7z x -so' } },
  { at: 0, mark: 'PK\x03\x04', format: { name: 'ZIP', unpack: 'unzip -p' } },
];

/**
 * The format of an image that is not raw, by its first `HEAD_BYTES` and its last `TAIL_BYTES` bytes, fewer of a smaller one; undefined
 * for what may be a disk. A disk whose guest has written such a mark there looks the same.
 */
export function imageFormat(head: Uint8Array, tail: Uint8Array): ImageFormat | undefined {
  const found = HEADS.find(({ at, mark }) => has(head, at, mark));
  if (found) return found.format;
  // A fixed VHD is a disk with a footer, which is no part of it.
  return has(tail, tail.length - 512, 'conectix') ? VHD : undefined;
}

/** The command that makes a raw disk of an image. */
export function conversion(format: ImageFormat, path: string): string {
  const from = quoted(path);
  const to = quoted(`${path.replace(/\.[^./]+$/, '')}.raw`);
  return 'unpack' in format
    ? `${format.unpack} ${from} > ${to}`
    : `qemu-img convert -f ${format.convert} -O raw ${from} ${to}`;
}

/** A path as a shell takes it. */
function quoted(path: string): string {
  return /^[\w./@%+=:,-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}

function has(bytes: Uint8Array, at: number, mark: string): boolean {
  if (at < 0 || at + mark.length > bytes.length) return false;
  for (let n = 0; n < mark.length; n++) if (bytes[at + n] !== mark.charCodeAt(n)) return false;
  return true;
}
