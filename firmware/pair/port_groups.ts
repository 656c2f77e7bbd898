/** The target port groups of a pair (SPC-4 5.16): one of each appliance, named alike by both. */
import type { TargetPortGroup } from "../frontend/scsi/target_port_groups.ts";
import type { PortPlace } from "../host_servers.ts";

/** iSCSI ports of one appliance of a pair, so that the relative target port identifiers of both never meet. */
export const pairPortsMax = 16;

/** Of the iSCSI ports at addresses that move: they are the same ports at either appliance, and initiators know them by their group's tag. */
export const movingPlace: PortPlace = { firstPort: 1 + 2 * pairPortsMax, portalGroup: 3 };

/** Those of the appliance whose name comes first begin with 1. */
export function portPlaceOf(appliance: string, partner: string): PortPlace {
  return appliance < partner ? { firstPort: 1, portalGroup: 1 } : { firstPort: 1 + pairPortsMax, portalGroup: 2 };
}

/** As the owner sees them: its own paths are the short ones; through the standby all is forwarded, while it `forwards`. */
export function portGroupsOf(pair: {
  readonly appliance: string;
  readonly partner: string;
  readonly ownPorts: number;
  readonly partnerPorts: number;
  /** At addresses that move: they are where the owner is. */
  readonly movingPorts: number;
  readonly forwards: boolean;
}): readonly TargetPortGroup[] {
  const { appliance, partner, ownPorts, partnerPorts, movingPorts, forwards } = pair;
  const own = portPlaceOf(appliance, partner);
  const other = portPlaceOf(partner, appliance);
  const groups: TargetPortGroup[] = [
    {
      id: own.portalGroup,
      state: "active-optimized",
      preferred: true,
      ports: [...portsFrom(own, ownPorts), ...portsFrom(movingPlace, movingPorts)],
    },
    {
      id: other.portalGroup,
      state: forwards ? "active-non-optimized" : "unavailable",
      preferred: false,
      ports: portsFrom(other, partnerPorts),
    },
  ];
  return groups.sort((a, b) => a.id - b.id);
}

function portsFrom({ firstPort }: PortPlace, count: number): number[] {
  return Array.from({ length: count }, (_, index) => firstPort + index);
}
