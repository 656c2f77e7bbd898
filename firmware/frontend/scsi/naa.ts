/** The unit's name that travels with the volume, over every failover (SPC-5 7.7.6.6). */
import { fromHex } from "../../codec/bytes.ts";

/**
 * NAA 3h, locally assigned: 60 bits of the volume's UUID. NAA 6h would claim an IEEE company id, which this firmware has none of.
 */
export function naaOf(uuid: string): Uint8Array {
  const naa = fromHex(uuid).subarray(0, 8);
  naa[0] = 0x30 | (naa[0]! & 0x0f);
  return naa;
}
