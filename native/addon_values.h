// Values of JavaScript as C++ has them, with errors that name the field; shared by the files addon*.cc, which
// are all that knows of JavaScript.
#pragma once

#include <napi.h>

#include <cmath>
#include <limits>
#include <string>

namespace quire {

// A field of an object, with an error that names it.
inline Napi::Value field(const Napi::Object& object, const char* name) {
  Napi::Value value = object.Get(name);
  if (value.IsUndefined()) throw Napi::TypeError::New(object.Env(), std::string(name) + " is missing");
  return value;
}

inline double number(const Napi::Object& object, const char* name, double low, double high) {
  const Napi::Value value = field(object, name);
  const double found = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (found >= low && found <= high) return found;
  throw Napi::RangeError::New(object.Env(), std::string(name) + ": found " + value.ToString().Utf8Value() +
                                                ", allowed " + std::to_string(static_cast<int64_t>(low)) +
                                                " to " + std::to_string(static_cast<int64_t>(high)));
}

inline int64_t integer(const Napi::Object& object, const char* name, int64_t low, int64_t high) {
  const double found = number(object, name, static_cast<double>(low), static_cast<double>(high));
  if (found == std::floor(found)) return static_cast<int64_t>(found);
  throw Napi::RangeError::New(object.Env(), std::string(name) + " is not a whole number");
}

inline int count(const Napi::Object& object, const char* name, int low = 1,
                 int high = std::numeric_limits<int32_t>::max() - 1) {
  return static_cast<int>(integer(object, name, low, high));
}

inline std::string text(const Napi::Object& object, const char* name) {
  const Napi::Value value = field(object, name);
  if (!value.IsString()) throw Napi::TypeError::New(object.Env(), std::string(name) + " is not a string");
  return value.As<Napi::String>().Utf8Value();
}

inline bool flag(const Napi::Object& object, const char* name) { return field(object, name).ToBoolean(); }

template <typename Array>
Array typed_array(const Napi::Object& object, const char* name, size_t length) {
  const Napi::Value value = field(object, name);
  if (value.IsTypedArray() && value.As<Napi::TypedArray>().ElementLength() == length)
    return value.As<Array>();
  throw Napi::TypeError::New(object.Env(),
                             std::string(name) + " is not a typed array of " + std::to_string(length));
}

// The one seam where C++ exceptions become JavaScript's.
template <typename Body>
auto guarded(Napi::Env env, const Body& body) -> decltype(body()) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw Napi::Error::New(env, "out of memory");
  } catch (const std::exception& error) {
    throw Napi::Error::New(env, error.what());
  }
}

}  // namespace quire
