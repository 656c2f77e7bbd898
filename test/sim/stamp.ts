/**
 * Sectors that tell who wrote them: every 512 bytes of simulated host data carry the number of the write, the volume and the LBA,
 * so that any image can be judged sector by sector.
 *
 * A sector is 128 words: [0] the write's number, [1] the LBA, [2] the volume, [127] the number again, all others a mix of the
 * three, so that a torn or misplaced sector is never taken for a whole one. Number 0 is the sector of zeros.
 */
export const sectorBytes = 512;
const sectorWords = sectorBytes / 4;

const scratch = new Uint32Array(sectorWords);
const scratchBytes = Buffer.from(scratch.buffer);
const zeroBytes = Buffer.alloc(sectorBytes);

function compose(write: number, volume: number, lba: number): void {
  const mixed = Math.imul(write, 0x9e3779b1) ^ Math.imul(lba + 1, 0x85ebca6b) ^ (volume << 24);
  scratch.fill(mixed);
  scratch[0] = write;
  scratch[1] = lba;
  scratch[2] = volume;
  scratch[sectorWords - 1] = write;
}

/** Fills `target` (whole sectors) as write number `write` would at `startLba`. */
export function stampSectors(target: Uint8Array, write: number, volume: number, startLba: number): void {
  for (let at = 0, lba = startLba; at < target.byteLength; at += sectorBytes, lba++) {
    compose(write, volume, lba);
    target.set(scratchBytes, at);
  }
}

/** The number of the write that a sector holds: 0 for zeros, -1 for anything that no write has put at this place. */
export function stampAt(bytes: Buffer, at: number, volume: number, lba: number): number {
  const write = bytes.readUInt32LE(at);
  if (write === 0) return bytes.compare(zeroBytes, 0, sectorBytes, at, at + sectorBytes) === 0 ? 0 : -1;
  compose(write, volume, lba);
  return bytes.compare(scratchBytes, 0, sectorBytes, at, at + sectorBytes) === 0 ? write : -1;
}

/** A view on the same memory with Buffer's methods. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
