/** The target port groups of a pair (SPC-4 5.16): one of each appliance, named alike by both. */
import type { TargetPortGroup } from "../frontend/scsi/target_port_groups.ts";
import { type PairPortGroups, pairPortsMax } from "../host_servers.ts";

/** Relative target port identifier of the appliance's first port: those of the appliance whose name comes first begin with 1. */
function firstPortOf(appliance: string, partner: string): number {
  return appliance < partner ? 1 : 1 + pairPortsMax;
}

/** As the owner sees them: its own paths are the short ones; through the standby all is forwarded, while it `forwards`. */
function portGroupsOf(pair: {
  readonly appliance: string;
  readonly partner: string;
  readonly ownPorts: number;
  readonly partnerPorts: number;
  readonly forwards: boolean;
}): readonly TargetPortGroup[] {
  const { appliance, partner, ownPorts, partnerPorts, forwards } = pair;
  const group = (name: string, other: string, count: number, state: TargetPortGroup["state"]): TargetPortGroup => {
    const first = firstPortOf(name, other);
    return {
      id: name < other ? 1 : 2,
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

export function pairPortGroups(
  names: { readonly appliance: string; readonly partner: string },
  now: () => { readonly ownPorts: number; readonly partnerPorts: number; readonly forwards: boolean },
): PairPortGroups {
  return { first: firstPortOf(names.appliance, names.partner), groups: () => portGroupsOf({ ...names, ...now() }) };
}
