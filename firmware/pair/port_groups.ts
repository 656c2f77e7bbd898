/** The target port groups of a pair (SPC-4 5.16): one of each appliance, named alike by both. */
import type { TargetPortGroup } from "../frontend/scsi/target_port_groups.ts";
import type { PortPlace } from "../host_servers.ts";

/** iSCSI ports of one appliance of a pair, so that the relative target port identifiers of both never meet. */
export const pairPortsMax = 16;

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
  readonly forwards: boolean;
}): readonly TargetPortGroup[] {
  const { appliance, partner, ownPorts, partnerPorts, forwards } = pair;
  const group = (name: string, other: string, count: number, state: TargetPortGroup["state"]): TargetPortGroup => {
    const { firstPort: first, portalGroup } = portPlaceOf(name, other);
    return {
      id: portalGroup,
      state,
      preferred: state === "active-optimized",
      ports: Array.from({ length: count }, (_, index) => first + index),
    };
  };
  const groups = [
    group(appliance, partner, ownPorts, "active-optimized"),
    group(partner, appliance, partnerPorts, forwards ? "active-non-optimized" : "unavailable"),
  ];
  return groups.sort((a, b) => a.id - b.id);
}
