/** An array's target: iSCSI names have no underscores (RFC 7143 4.2.7.1), arrays' names may. */
export function iscsiTargetName(array: string): string {
  return `iqn.2026-11.org.goldcopy:${array.toLowerCase().replaceAll("_", "-")}`;
}
