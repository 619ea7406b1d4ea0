#include <array>
#include <ctime>
#include <optional>
#include <string>

#include "text/jinja/globals.h"

namespace fettle::text::jinja {
namespace {

constexpr std::array<std::string_view, 7> kDays = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                                   "Thursday", "Friday", "Saturday"};
constexpr std::array<std::string_view, 12> kMonths = {"January",   "February", "March",    "April",
                                                      "May",       "June",     "July",     "August",
                                                      "September", "October",  "November", "December"};

// ISO 8601 week and its year.
struct IsoWeek {
  int year, week;
};
IsoWeek iso_week(const std::tm& t) {
  const int year = t.tm_year + 1900;
  const int weekday = (t.tm_wday + 6) % 7;          // Monday 0
  const int week = (t.tm_yday - weekday + 10) / 7;  // week that holds this week's Thursday
  const auto weeks_in = [](int y) {
    const auto dec31 = [](int z) { return (z + z / 4 - z / 100 + z / 400) % 7; };
    return dec31(y) == 4 || dec31(y - 1) == 3 ? 53 : 52;
  };
  if (week < 1) return {year - 1, weeks_in(year - 1)};
  if (week > weeks_in(year)) return {year + 1, 1};
  return {year, week};
}

// A number padded to `width` with `pad`, as %d and its like; flag '-' drops the padding, '_' and '0' choose it.
std::string padded(int value, int width, char pad, char flag) {
  std::string text = std::to_string(value);
  if (flag == '-') return text;
  if (flag == '_') pad = ' ';
  if (flag == '0') pad = '0';
  while (static_cast<int>(text.size()) < width) text.insert(text.begin(), pad);
  return text;
}

std::string_view index_or_unknown(const auto& names, int i) {
  return i >= 0 && i < static_cast<int>(names.size()) ? names[static_cast<size_t>(i)] : std::string_view("?");
}

std::string upper_if(std::string text, char flag) {
  if (flag == '^')
    for (char& c : text)
      if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
  return text;
}

// One conversion; an empty optional for an unknown letter.
std::optional<std::string> convert(char letter, char flag, const std::tm& t) {
  const int year = t.tm_year + 1900;
  const int hour12 = t.tm_hour % 12 == 0 ? 12 : t.tm_hour % 12;
  switch (letter) {
    case 'a':
      return upper_if(std::string(index_or_unknown(kDays, t.tm_wday).substr(0, 3)), flag);
    case 'A':
      return upper_if(std::string(index_or_unknown(kDays, t.tm_wday)), flag);
    case 'b':
    case 'h':
      return upper_if(std::string(index_or_unknown(kMonths, t.tm_mon).substr(0, 3)), flag);
    case 'B':
      return upper_if(std::string(index_or_unknown(kMonths, t.tm_mon)), flag);
    case 'c':
      return format_time("%a %b %e %H:%M:%S %Y", t);
    case 'C':
      return padded(year / 100, 2, '0', flag);
    case 'd':
      return padded(t.tm_mday, 2, '0', flag);
    case 'D':
    case 'x':
      return format_time("%m/%d/%y", t);
    case 'e':
      return padded(t.tm_mday, 2, ' ', flag);
    case 'f':
      return std::string("000000");
    case 'F':
      return format_time("%Y-%m-%d", t);
    case 'g':
      return padded(iso_week(t).year % 100, 2, '0', flag);
    case 'G':
      return std::to_string(iso_week(t).year);
    case 'H':
      return padded(t.tm_hour, 2, '0', flag);
    case 'I':
      return padded(hour12, 2, '0', flag);
    case 'j':
      return padded(t.tm_yday + 1, 3, '0', flag);
    case 'k':
      return padded(t.tm_hour, 2, ' ', flag);
    case 'l':
      return padded(hour12, 2, ' ', flag);
    case 'm':
      return padded(t.tm_mon + 1, 2, '0', flag);
    case 'M':
      return padded(t.tm_min, 2, '0', flag);
    case 'n':
      return std::string("\n");
    case 'p':
      return std::string(t.tm_hour < 12 ? "AM" : "PM");
    case 'P':
      return std::string(t.tm_hour < 12 ? "am" : "pm");
    case 'r':
      return format_time("%I:%M:%S %p", t);
    case 'R':
      return format_time("%H:%M", t);
    case 'S':
      return padded(t.tm_sec, 2, '0', flag);
    case 't':
      return std::string("\t");
    case 'T':
    case 'X':
      return format_time("%H:%M:%S", t);
    case 'u':
      return std::to_string(t.tm_wday == 0 ? 7 : t.tm_wday);
    case 'U':
      return padded((t.tm_yday + 7 - t.tm_wday) / 7, 2, '0', flag);
    case 'V':
      return padded(iso_week(t).week, 2, '0', flag);
    case 'w':
      return std::to_string(t.tm_wday);
    case 'W':
      return padded((t.tm_yday + 7 - (t.tm_wday + 6) % 7) / 7, 2, '0', flag);
    case 'y':
      return padded(year % 100, 2, '0', flag);
    case 'Y':
      return std::to_string(year);
    case 'z':
    case 'Z':
      return std::string();  // the clock has no zone
    case '%':
      return std::string("%");
    default:
      return std::nullopt;
  }
}

}  // namespace

std::string format_time(std::string_view format, const std::tm& time) {
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 >= format.size()) {
      out += format[i];
      continue;
    }
    const char next = format[i + 1];
    const bool has_flag = std::string_view("-_0^").find(next) != std::string_view::npos && i + 2 < format.size();
    const size_t letter = i + (has_flag ? 2 : 1);
    if (const auto text = convert(format[letter], has_flag ? next : '\0', time)) {
      out += *text;
      i = letter;
    } else {
      out += '%';
    }
  }
  return out;
}

}  // namespace fettle::text::jinja
