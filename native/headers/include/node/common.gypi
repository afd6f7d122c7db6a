# The addon uses Node-API alone, whose headers come from the npm package node-api-headers. node-gyp still wants a folder
# with Node's own headers and would download one; given this folder (--nodedir) it downloads nothing.
{
  'target_defaults': {
    'configurations': {
      'Release': {},
      'Debug': {}
    },
    'default_configuration': 'Release',
    'cflags': ['-fPIC', '-pthread', '-Wall', '-Wextra', '-Wno-unused-parameter'],
    'ldflags': ['-pthread'],
    'conditions': [
      ['OS=="mac"', {
        'xcode_settings': { 'MACOSX_DEPLOYMENT_TARGET': '12.0' },
        'ldflags': ['-undefined dynamic_lookup']
      }]
    ]
  }
}
