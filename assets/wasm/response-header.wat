;; A proxy-wasm plugin, as small as one can be: it adds the header x-wasm-plugin to each response, with the text of
;; pluginConfig as its value. ABI: https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1
;; response-header.wasm is this file in binary form (wat2wasm).
(module
  (import "env" "proxy_add_header_map_value"
    (func $add_header (param $map i32) (param $key i32) (param $key_size i32) (param $value i32) (param $size i32)
      (result i32)))
  (import "env" "proxy_get_buffer_bytes"
    (func $get_buffer (param $buffer i32) (param $start i32) (param $most i32) (param $at i32) (param $size_at i32)
      (result i32)))

  (memory (export "memory") 2)
  (data (i32.const 16) "x-wasm-plugin")
  (global $free (mut i32) (i32.const 1024))
  (global $value (mut i32) (i32.const 0))
  (global $size (mut i32) (i32.const 0))

  (func (export "proxy_abi_version_0_2_1"))

  ;; The host asks for memory once, for the configuration; nothing is ever given back.
  (func (export "proxy_on_memory_allocate") (param $wanted i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $free))
    (global.set $free (i32.add (global.get $free) (local.get $wanted)))
    (local.get $at))

  (func (export "proxy_on_context_create") (param $context i32) (param $parent i32))
  (func (export "proxy_on_vm_start") (param $context i32) (param $config_size i32) (result i32)
    (i32.const 1))

  ;; 7 is the buffer of the plugin's configuration. Address and size are left at 0 and 4.
  (func (export "proxy_on_configure") (param $context i32) (param $config_size i32) (result i32)
    (if (local.get $config_size)
      (then
        (drop (call $get_buffer (i32.const 7) (i32.const 0) (local.get $config_size) (i32.const 0) (i32.const 4)))
        (global.set $value (i32.load (i32.const 0)))
        (global.set $size (i32.load (i32.const 4)))))
    (i32.const 1))

  ;; 2 is the map of response headers. 0 means: go on.
  (func (export "proxy_on_response_headers") (param $context i32) (param $headers i32) (param $end i32) (result i32)
    (drop (call $add_header
      (i32.const 2) (i32.const 16) (i32.const 13) (global.get $value) (global.get $size)))
    (i32.const 0))

  (func (export "proxy_on_done") (param $context i32) (result i32) (i32.const 1))
  (func (export "proxy_on_delete") (param $context i32)))
