# Each CPU variant is a library of its own because only its file may use its instructions; one binary holds them all.
{
  'variables': {
    'api_headers%': '<!(node -p "require(\'node-api-headers\').include_dir")',
    'addon_api%': '<!(node -p "require(\'node-addon-api\').include_dir")',
    'cuda%': '<!(node ../scripts/find-cuda.mjs enabled)',
    # g++ 12 takes its own undefined-value intrinsics for uninitialised variables.
    'avx512_flags': [
      '-mavx512f', '-mavx512bw', '-mavx512vl', '-mavx512dq', '-mavx512vnni', '-mfma', '-mf16c', '-Wno-maybe-uninitialized', '-Wno-uninitialized'
    ],
    'checks%': '<!(node -p "process.env.NATIVE_CHECKS === \'1\' ? 1 : 0")'
  },
  'target_defaults': {
    'include_dirs': ['.'],
    # Contraction off: whether a multiply and an add become one must not depend on how a loop was unrolled.
    'cflags_cc': ['-std=c++17', '-O3', '-ffp-contract=off', '-fvisibility=hidden', '-fexceptions'],
    'xcode_settings': {
      'CLANG_CXX_LANGUAGE_STANDARD': 'c++17',
      'GCC_OPTIMIZATION_LEVEL': '3',
      'GCC_ENABLE_CPP_EXCEPTIONS': 'YES',
      'OTHER_CPLUSPLUSFLAGS': ['-ffp-contract=off']
    },
    'conditions': [['checks==1', { 'defines': ['NATIVE_CHECKS'] }]]
  },
  'targets': [
    {
      'target_name': 'ops_avx2',
      'type': 'static_library',
      'sources': ['cpu/ops_avx2.cc'],
      'conditions': [['target_arch=="x64"', { 'cflags_cc': ['-mavx2', '-mfma', '-mf16c'] }]]
    },
    {
      'target_name': 'ops_avx512',
      'type': 'static_library',
      'sources': ['cpu/ops_avx512.cc'],
      'conditions': [['target_arch=="x64"', { 'cflags_cc': ['<@(avx512_flags)'] }]]
    },
    {
      'target_name': 'ops_avx512_bf16',
      'type': 'static_library',
      'sources': ['cpu/ops_avx512_bf16.cc'],
      'conditions': [['target_arch=="x64"', { 'cflags_cc': ['<@(avx512_flags)', '-mavx512bf16'] }]]
    },
    {
      'target_name': 'ops_amx',
      'type': 'static_library',
      'sources': ['cpu/ops_amx.cc'],
      'conditions': [['target_arch=="x64"', {
        'cflags_cc': ['<@(avx512_flags)', '-mavx512bf16', '-mamx-tile', '-mamx-int8', '-mamx-bf16']
      }]]
    },
    {
      'target_name': 'kernels',
      'type': 'static_library',
      'sources': [
        'awq_tiles.cc', 'coded_bf16.cc', 'cpu/cpu_backend.cc', 'cpu/cpu_features.cc', 'cpu/ops_portable.cc', 'cpu/roofs.cc', 'reference/ops.cc', 'reference/sampler.cc', 'integer_rounding.cc', 'large_page_mapping.cc', 'packed_cache.cc', 'thread_pool.cc', 'weight_panels.cc', 'weight_tiles.cc'
      ]
    },
    {
      'target_name': 'quire',
      'sources': [
        'adapters.cc', 'addon.cc', 'addon_bench.cc', 'arena.cc', 'awq_weights.cc', 'batch_checks.cc', 'f8_weights.cc', 'model.cc', 'model_layers.cc', 'moe.cc', 'op_bench.cc', 'weights.cc'
      ],
      'dependencies': ['kernels', 'ops_avx2', 'ops_avx512', 'ops_avx512_bf16', 'ops_amx'],
      'include_dirs': ['<(api_headers)', '<(addon_api)'],
      'defines': ['NAPI_VERSION=9', 'NODE_ADDON_API_CPP_EXCEPTIONS', 'NODE_ADDON_API_DISABLE_DEPRECATED', 'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS']
    },
    {
      'target_name': 'ops_test',
      'type': 'executable',
      'sources': ['<!@(node -p "require(\'fs\').readdirSync(\'../test/native\').filter(f => f.endsWith(\'.cc\')).map(f => \'../test/native/\' + f).join(\' \')")'],
      'dependencies': ['kernels', 'ops_avx2', 'ops_avx512', 'ops_avx512_bf16', 'ops_amx']
    },
    {
      # The CUDA sources as they are, for the emulator (simt/): g++ instead of nvcc.
      'target_name': 'cuda_emulated',
      'type': 'static_library',
      'conditions': [['target_arch=="x64"', {
        'sources': [
          'cuda/attention.cu', 'cuda/awq_dequantise.cu', 'cuda/awq_matmul.cu', 'cuda/awq_pack.cc', 'cuda/elementwise.cu',
          'cuda/cuda_backend.cu', 'cuda/f8_matmul.cu', 'cuda/feed_back.cu', 'cuda/flash_attention_prefill.cu', 'cuda/flash_attention_prefill_wgmma.cu', 'cuda/grouped_matmul.cu',
          'cuda/lora_matmul.cu', 'cuda/matmul.cu', 'cuda/moe.cu',
          'cuda/paged_attention_decode.cu', 'cuda/rms_norm.cu', 'cuda/rope_and_cache.cu', 'cuda/sampler.cu', 'cuda/step_buffers.cc',
          'simt/dense_matmul.cc', 'simt/devices.cc', 'simt/simt.cc', 'simt/stream.cc', 'simt/warpgroup.cc'
        ],
        'rules': [{
          'rule_name': 'emulate',
          'extension': 'cu',
          'inputs': ['<!@(node -p "[\'.\', \'cuda\', \'simt\'].flatMap((d) => require(\'fs\').readdirSync(d).filter(f => f.endsWith(\'.h\')).map(f => d + \'/\' + f)).join(\' \')")'],
          'outputs': ['<(INTERMEDIATE_DIR)/<(RULE_INPUT_ROOT).o'],
          'process_outputs_as_sources': 1,
          'action': [
            '<!(node -p "process.env.CXX || \'g++\'")', '-std=c++17', '-O2', '-fPIC', '-Wall', '-Wextra', '-Wno-unknown-pragmas',
            '-I.', '-x', 'c++', '-c', '<(RULE_INPUT_PATH)', '-o', '<@(_outputs)'
          ]
        }]
      }]]
    },
    {
      'target_name': 'cuda_test',
      'type': 'executable',
      'cflags_cc': ['-Wno-unknown-pragmas'],
      'include_dirs': ['../test/native', '../test/native/cuda'],
      'sources': ['<!@(node -p "require(\'fs\').readdirSync(\'../test/native/cuda\').filter(f => f.endsWith(\'_test.cc\')).map(f => \'../test/native/cuda/\' + f).join(\' \')")', '../test/native/sampler_test.cc', 'arena.cc'],
      'dependencies': ['kernels', 'cuda_emulated']
    },
    {
      # The addon with the emulator in the GPU's place: for tests of the model and of the engine above it.
      'target_name': 'quire_emulated',
      'sources': ['adapters.cc', 'addon.cc', 'arena.cc', 'awq_weights.cc', 'batch_checks.cc', 'f8_weights.cc', 'model.cc', 'model_layers.cc', 'moe.cc', 'weights.cc'],
      'dependencies': ['kernels', 'ops_avx2', 'ops_avx512', 'ops_avx512_bf16', 'ops_amx', 'cuda_emulated'],
      'include_dirs': ['<(api_headers)', '<(addon_api)'],
      'defines': ['QUIRE_CUDA', 'NAPI_VERSION=9', 'NODE_ADDON_API_CPP_EXCEPTIONS', 'NODE_ADDON_API_DISABLE_DEPRECATED', 'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS']
    }
  ],
  'conditions': [['cuda==1', {
    'targets': [{
      # What runs on an NVIDIA GPU: SASS for sm_80 to sm_90a, PTX for newer ones.
      'target_name': 'quire_cuda',
      'sources': [
        'adapters.cc', 'addon.cc', 'arena.cc', 'awq_weights.cc', 'batch_checks.cc', 'f8_weights.cc', 'cuda/awq_pack.cc', 'cuda/step_buffers.cc', 'model.cc', 'model_layers.cc', 'moe.cc', 'weights.cc',
        '<!@(node -p "require(\'fs\').readdirSync(\'cuda\').filter(f => f.endsWith(\'.cu\')).map(f => \'cuda/\' + f).join(\' \')")'
      ],
      'dependencies': ['kernels', 'ops_avx2', 'ops_avx512', 'ops_avx512_bf16', 'ops_amx'],
      'include_dirs': ['<(api_headers)', '<(addon_api)'],
      'defines': ['QUIRE_CUDA', 'NAPI_VERSION=9', 'NODE_ADDON_API_CPP_EXCEPTIONS', 'NODE_ADDON_API_DISABLE_DEPRECATED', 'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS'],
      'libraries': ['<!@(node ../scripts/find-cuda.mjs libraries)', '-ldl', '-lrt', '-lpthread'],
      'rules': [{
        'rule_name': 'nvcc',
        'extension': 'cu',
        'inputs': ['<!@(node -p "[\'.\', \'cuda\'].flatMap((d) => require(\'fs\').readdirSync(d).filter(f => f.endsWith(\'.h\')).map(f => d + \'/\' + f)).join(\' \')")'],
        'outputs': ['<(INTERMEDIATE_DIR)/<(RULE_INPUT_ROOT).o'],
        'process_outputs_as_sources': 1,
        'action': [
          '<!(node ../scripts/find-cuda.mjs nvcc)', '-std=c++17', '-O3', '-Xcompiler', '-fPIC,-fvisibility=hidden', '-I.',
          '-I<!(node ../scripts/find-cuda.mjs include)', '-DQUIRE_CUDA',
          '-gencode', 'arch=compute_80,code=sm_80', '-gencode', 'arch=compute_86,code=sm_86',
          '-gencode', 'arch=compute_89,code=sm_89', '-gencode', 'arch=compute_90a,code=sm_90a',
          '-gencode', 'arch=compute_90,code=compute_90', '-c', '<(RULE_INPUT_PATH)', '-o', '<@(_outputs)'
        ]
      }]
    }]
  }]]
}
