// The words of a text, and how often each occurs.

#include <esp/plugin.hpp>

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

// Words are what `tr -s ' \t\n' '\n'` makes lines of; any other byte belongs
// to a word. A chunk begins and ends between words. The empty chunk is the
// empty word, which that command finds before a text that begins with a
// separator, and nowhere else.
void split(const std::string& chunk, esp::outlet& out) {
  constexpr std::string_view separators = " \t\n";
  if (chunk.empty())
    return out.emit(std::string());
  std::size_t end = 0, begin;
  while ((begin = chunk.find_first_not_of(separators, end)) != chunk.npos) {
    end = std::min(chunk.find_first_of(separators, begin), chunk.size());
    out.emit(chunk.substr(begin, end - begin));
  }
}

// Counts until the barrier comes, then gives its totals and begins anew.
struct count {
  std::unordered_map<std::string, std::int64_t> totals;

  void operator()(std::string word) { ++totals[std::move(word)]; }

  // In the order of the words, and many in one datum: what leaves for Erlang
  // is encoded and sent, which costs more than the word.
  void flush(esp::outlet& out) {
    using total = std::pair<std::string, std::int64_t>;
    std::vector<total> all(totals.begin(), totals.end());
    totals.clear();
    std::sort(all.begin(), all.end());
    constexpr std::size_t batch = 500;
    for (std::size_t at = 0; at < all.size(); at += batch) {
      const auto from = all.begin() + static_cast<std::ptrdiff_t>(at);
      const auto n = std::min(batch, all.size() - at);
      out.emit(std::vector<total>(from, from + static_cast<std::ptrdiff_t>(n)));
    }
  }

  static constexpr auto fields() {
    return esp::fields(esp::field("totals", &count::totals));
  }
};

ESP_PLUGIN(wordcount, "1.0.0") {
  plugin.task("split", split);
  plugin.task<count>("count");
}
