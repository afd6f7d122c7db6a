{
  'target_defaults': { 'cflags': [], 'default_configuration': 'Release', 'defines': [], 'include_dirs': [], 'libraries': [] },
  'variables': { 'node_shared': 'false', 'node_use_openssl': 'false', 'v8_enable_i18n_support': 1 }
}
