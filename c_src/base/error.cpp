#include "esp/error.hpp"

namespace esp {

std::string_view name(errc code) noexcept {
  switch (code) {
  case errc::truncated:
    return "truncated";
  case errc::malformed:
    return "malformed";
  case errc::too_large:
    return "too_large";
  case errc::too_deep:
    return "too_deep";
  case errc::system_limit:
    return "system_limit";
  case errc::badarg:
    return "badarg";
  case errc::timeout:
    return "timeout";
  case errc::noproc:
    return "noproc";
  case errc::noconnection:
    return "noconnection";
  case errc::not_found:
    return "not_found";
  case errc::refused:
    return "refused";
  case errc::already:
    return "already";
  case errc::io:
    return "io";
  }
  return "malformed";
}

} // namespace esp
