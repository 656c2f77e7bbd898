/** The board profile of docs/images.md, with a smaller cache: one disk, and two ports for hosts. */
export const shelfSerial = "SHELF-0-0";
/** In the machine. */
export const managementPort = 7600;
export const managementSecret = "0123456789abcdef";

export interface HostPort {
  /** Address and port in the machine. */
  readonly listen: string;
  readonly protocol: "nbd" | "iscsi";
}

/** `nbd`: where the first port, for NBD, listens. */
export function virtualProfile(nbd: string, second: HostPort): string {
  return `[array]
name = "oak"
appliance = "oak-a"

[manage]
socket = "/run/goldcopy/oak-a.sock"
listen = "0.0.0.0:${managementPort}"
secret = "${managementSecret}"

[log]
file = "/var/log/goldcopy/oak-a.log"

[cache]
path = "/var/lib/goldcopy/nvram"
size = "64MiB"
persistence = "flush"

[[hba]]
name = "hba0"
listen = "${nbd}"
protocol = "nbd"

[[hba]]
name = "hba1"
listen = "${second.listen}"
protocol = "${second.protocol}"

[[nic]]
name = "nic0"
listen = "0.0.0.0:7000"

[[nic]]
name = "nic1"
listen = "0.0.0.0:7001"

[[shelf]]
name = "shelf0"
fencing = "none"

[[shelf.disk]]
slot = 0
path = "/dev/shelf/${shelfSerial}"
`;
}
