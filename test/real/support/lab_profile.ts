/** What an appliance of a lab makes of the profile that the lab writes for it. */
import { type BoardProfile, parseBoardProfile } from "../../../firmware/manage/board_profile.ts";
import { profileText } from "../../../scripts/lab_site/profile.ts";
import { applianceOf, type Lab } from "../../../scripts/lab_site/site.ts";

/** Throws what the appliance would say when it refuses the profile. */
export function profileOf(lab: Lab, name: string): BoardProfile {
  const outcome = parseBoardProfile(name, Bun.TOML.parse(profileText(lab, applianceOf(lab, name))));
  if (!outcome.ok) throw new Error(outcome.text);
  return outcome.profile;
}
