/** Logical unit numbers as they travel (SAM-5 4.7). */

const peripheralMethod = 0;
const flatMethod = 1;

/** 0 to 16383; null: not the number of a unit that this device could have (another bus, several levels, an unknown method). */
export function decodeLun(lun: Uint8Array): number | null {
  for (let index = 2; index < 8; index++) if (lun[index] !== 0) return null;
  const method = lun[0]! >> 6;
  const high = lun[0]! & 0x3f;
  // Peripheral device addressing: a bus identifier other than 0 is somewhere else.
  if (method === peripheralMethod) return high === 0 ? lun[1]! : null;
  return method === flatMethod ? (high << 8) | lun[1]! : null;
}

/** Peripheral device addressing for 0 to 255. */
export function encodeLun(lun: number, target: Uint8Array, at: number): void {
  target.fill(0, at, at + 8);
  target[at + 1] = lun;
}
