/**
 * The CRC-32 of a run of 4 KiB blocks out of the CRC-32 of each, so that a long read is checked in one native call.
 *
 * CRC-32 is linear over GF(2): the CRC of A followed by B is the CRC of A moved past B's length, XOR the CRC of B (zlib's
 * `crc32_combine`). Moving past 4 KiB is one fixed map of 32 bits to 32 bits, here as four tables of 256.
 *
 * Measured (Bun 1.4.5, EPYC, 1 MiB): 256 calls of 4 KiB each 80 to 190 us; one call and 256 moves 26 us.
 */

const polynomial = 0xedb88320;
const blockBytes = 4096;

/** `pastBlock[k * 256 + b]`: the CRC whose byte k is b and whose others are 0, moved past a block. */
const pastBlock = tablesOf(columnsPast(blockBytes));

/** The CRC of a run whose CRC is `run` with the block behind it whose CRC is `block`. */
export function appendBlock(run: number, block: number): number {
  const moved =
    pastBlock[run & 0xff]! ^
    pastBlock[256 + ((run >>> 8) & 0xff)]! ^
    pastBlock[512 + ((run >>> 16) & 0xff)]! ^
    pastBlock[768 + (run >>> 24)]!;
  return (moved ^ block) >>> 0;
}

/** What each of the 32 bits becomes when `lengthBytes` bytes follow. */
function columnsPast(lengthBytes: number): number[] {
  const zeroByte = Uint32Array.from({ length: 256 }, (_, byte) => {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ polynomial;
    return crc;
  });
  return Array.from({ length: 32 }, (_, bit) => {
    let crc = 2 ** bit;
    for (let at = 0; at < lengthBytes; at++) crc = (crc >>> 8) ^ zeroByte[crc & 0xff]!;
    return crc >>> 0;
  });
}

function tablesOf(columns: readonly number[]): Uint32Array {
  return Uint32Array.from({ length: 4 * 256 }, (_, at) => {
    let sum = 0;
    for (let bit = 0; bit < 8; bit++) if ((at & (1 << bit)) !== 0) sum ^= columns[(at >>> 8) * 8 + bit]!;
    return sum;
  });
}
