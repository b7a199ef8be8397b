#include "term/print.hpp"

#include "term/print_leaf.hpp"

#include <vector>

namespace esp::etf {
namespace {

class printer {
public:
  explicit printer(std::size_t limit) : limit_(limit) {}

  std::string run(const std::byte* p) {
    p_ = p;
    one();
    while (!open_.empty() && out_.size() <= limit_) {
      step();
    }
    if (out_.size() > limit_) {
      cut();
    }
    return std::move(out_);
  }

private:
  enum class inside : std::uint8_t { list, bytes, tuple, map, skipped, record };
  struct frame {
    inside what;
    std::uint64_t left;
    std::uint64_t of;
    const std::byte* fields = nullptr; // record
  };

  void cut() {
    std::size_t n = limit_;
    while (n > 0 && (out_[n] & 0xC0) == 0x80) {
      --n;
    }
    out_.resize(n);
    out_ += "...";
  }

  void one() {
    p_ = strip(p_);
    const head h = read(p_);
    p_ = h.next;
    switch (h.what) {
    case form::integer:
      out_ += std::to_string(h.integer);
      return;
    case form::big:
      print_big(out_, h, limit_);
      return;
    case form::floating:
      print_float(out_, h.floating);
      return;
    case form::atom:
      print_atom(out_, h.name);
      return;
    case form::binary:
    case form::bits:
      print_binary(out_, h, limit_);
      return;
    case form::nil:
      out_ += "[]";
      return;
    case form::string:
    case form::list:
      list(h);
      return;
    case form::tuple:
      out_ += '{';
      open_.push_back({inside::tuple, h.count, h.count});
      return;
    case form::map:
      out_ += "#{";
      open_.push_back({inside::map, 2 * h.count, 2 * h.count});
      return;
    case form::pid:
    case form::port:
    case form::ref:
      print_identifier(out_, h);
      return;
    case form::external_fun:
      out_ += "fun ";
      print_atom(out_, h.name);
      out_ += ':';
      print_atom(out_, h.function);
      out_ += '/' + std::to_string(h.integer);
      return;
    case form::closure:
      out_ += "#Fun<";
      print_atom(out_, h.name);
      out_ += '.' + std::to_string(h.old_index) + '.'
              + std::to_string(h.old_uniq) + '>';
      open_.push_back({inside::skipped, 1 + h.count, 0});
      return;
    case form::record:
      out_ += '#';
      print_atom(out_, h.name);
      out_ += ':';
      print_atom(out_, h.function);
      out_ += '{';
      open_.push_back({inside::record, h.count, h.count, h.body});
      return;
    }
  }

  // A list of printable characters is text, as ~p has it.
  void list(const head& h) {
    std::string text;
    const std::byte* end = nullptr;
    if (is_text(h, text, end)) {
      print_text(out_, text);
      p_ = end;
      return;
    }
    out_ += '[';
    if (h.what == form::string) {
      p_ = h.body;
      open_.push_back({inside::bytes, h.count, h.count});
    } else {
      open_.push_back({inside::list, h.count, h.count});
    }
  }

  bool is_text(head h, std::string& text, const std::byte*& end) const {
    const std::byte* p = nullptr;
    for (;; h = read(strip(p))) { // from each tail to the next
      if (h.what == form::nil) {
        end = h.next;
        return true;
      }
      if (h.what != form::list && h.what != form::string) {
        return false;
      }
      p = h.what == form::string ? h.body : h.next;
      for (std::uint64_t i = 0; i < h.count; ++i) {
        std::int64_t c = 0;
        if (h.what == form::string) {
          c = tag_at(p++);
        } else {
          const head e = read(strip(p));
          if (e.what != form::integer) {
            return false;
          }
          c = e.integer;
          p = e.next;
        }
        if (!is_printable(c)) {
          return false;
        }
        text += static_cast<char>(c);
        if (text.size() > limit_) {
          end = p; // cut before anybody asks for more
          return true;
        }
      }
      if (h.what == form::string) {
        end = p;
        return true;
      }
    }
  }

  void step() {
    frame& f = open_.back();
    switch (f.what) {
    case inside::skipped: // what a closure closed over
      for (; f.left > 0; --f.left) {
        p_ = skip(p_);
      }
      open_.pop_back();
      return;
    case inside::bytes:
      if (f.left == 0) {
        out_ += ']';
        open_.pop_back();
        return;
      }
      comma(f);
      out_ += std::to_string(tag_at(p_++));
      --f.left;
      return;
    case inside::list:
      if (f.left == 0) {
        tail();
        return;
      }
      break;
    default:
      if (f.left == 0) {
        out_ += '}';
        open_.pop_back();
        return;
      }
    }
    if (f.what == inside::map && f.left % 2 == 1) {
      out_ += " => ";
    } else {
      comma(f);
    }
    if (f.what == inside::record) {
      atom_bytes name;
      f.fields = read_atom(f.fields, name);
      print_atom(out_, name);
      out_ += " = ";
    }
    --f.left;
    one();
  }

  void comma(const frame& f) {
    if (f.left != f.of) {
      out_ += ',';
    }
  }

  void tail() {
    p_ = strip(p_);
    const head h = read(p_);
    frame& f = open_.back();
    f.of = h.count + 1; // a comma before its first too
    f.left = h.count;
    switch (h.what) {
    case form::list:
      p_ = h.next;
      return;
    case form::string:
      f.what = inside::bytes;
      p_ = h.body;
      return;
    case form::nil:
      p_ = h.next;
      out_ += ']';
      open_.pop_back();
      return;
    default:
      out_ += '|';
      f.what = inside::bytes; // closes with a bracket
      f.left = 0;
      one();
    }
  }

  std::string out_;
  std::size_t limit_;
  const std::byte* p_ = nullptr;
  std::vector<frame> open_;
};

} // namespace

std::string print(const std::byte* p, std::size_t limit) {
  return printer(limit).run(p);
}

} // namespace esp::etf
