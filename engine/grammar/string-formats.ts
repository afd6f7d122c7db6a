// `format` of strings: what each admits, as a regular expression. Narrower than the standards where they
// allow what nobody means, and of bounded length, so that every answer comes to an end.

const date = '[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])';
const time = '([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])';
const label = '[a-z0-9]([a-z0-9-]{0,14}[a-z0-9])?';
const uriText = "[A-Za-z0-9._~!$&'()*+,;=:@-]{0,24}";
const octet = '(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])';
const hexGroup = '[0-9a-fA-F]{1,4}';

export const stringFormats: Readonly<Record<string, string>> = {
  // Every month has 28 days; a grammar cannot count the others by the year.
  date: `(${date}|[0-9]{4}-(0[13-9]|1[0-2])-(29|30)|[0-9]{4}-(0[13578]|1[02])-31)`,
  time,
  'date-time': `${date}T${time}`,
  duration:
    'P([0-9]{1,4}W|([0-9]{1,4}Y)?([0-9]{1,4}M)?[0-9]{1,4}D(T([0-9]{1,4}H)?([0-9]{1,4}M)?[0-9]{1,4}S)?|T([0-9]{1,4}H)?([0-9]{1,4}M)?[0-9]{1,4}S)',
  email: `[A-Za-z0-9_+-]{1,20}(\\.[A-Za-z0-9_+-]{1,20}){0,2}@${label}(\\.${label}){1,3}`,
  hostname: `${label}(\\.${label}){0,4}`,
  ipv4: `${octet}(\\.${octet}){3}`,
  ipv6: `${hexGroup}(:${hexGroup}){7}`,
  uuid: '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}',
  uri: `[a-z][a-z0-9+.-]{1,8}://${label}(\\.${label}){0,3}(:[0-9]{1,4})?(/${uriText}){0,6}(\\?${uriText})?(#${uriText})?`,
};
