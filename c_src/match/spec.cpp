#include "match/spec.hpp"

#include "match/number.hpp"

#include <exception>
#include <unordered_map>

namespace esp::match {

namespace {

const term true_ = atom("true"), false_ = atom("false"), exit_ = atom("EXIT");
const term undefined = atom("undefined");

// More is not made of parts: they double fast.
constexpr std::size_t most_made = std::size_t{16} << 20;

// To multiply or divide two numbers takes the product of their sizes, though
// in words, and each faster than a byte is copied.
std::size_t cost_of(std::span<const term> all) noexcept {
  constexpr std::size_t at_once = 1024;
  std::size_t n = 0;
  for (const term& t : all)
    n += t.bytes().size();
  if (all.size() == 2 && all[0].kind() == kind::integer
      && all[1].kind() == kind::integer)
    n += all[0].bytes().size() * all[1].bytes().size() / at_once;
  return n;
}

} // namespace

// One clause at work. A function that fails is the atom 'EXIT' in a body, and
// the end of the clause in a guard.
class spec::machine {
public:
  machine(const caller& c, const term& args, const pattern::bindings& bound,
          std::atomic<std::uint32_t>* tcw, verdict& out, budget& left)
      : caller_(c), args_(args), bound_(bound), tcw_(tcw), out_(out),
        left_(left) {}

  // False: a guard is not true, or it was too much work.
  bool run(const std::vector<op>& code, const std::vector<std::size_t>& labels,
           bool is_guard) {
    stack_.clear();
    for (std::size_t i = 0; i < code.size(); ++i) {
      const op& o = code[i];
      if (o.what == op::code::if_true || o.what == op::code::if_false) {
        const term& last = stack_.back();
        const bool goes_on = o.what == op::code::if_true;
        if (last == (goes_on ? true_ : false_)) {
          stack_.pop_back();
          continue;
        }
        if (last != (goes_on ? false_ : true_)) {
          if (is_guard)
            return false;
          stack_.back() = exit_;
        }
        i = labels[o.n] - 1;
        continue;
      }
      if (!step(o, is_guard))
        return false;
    }
    return true;
  }

private:
  bool step(const op& o, bool is_guard) {
    using enum op::code;
    switch (o.what) {
    case push:
      stack_.push_back(o.value);
      return true;
    case variable: {
      const place p = bound_.at(static_cast<std::int64_t>(o.n));
      if (!left_.take(size_of(p)))
        return false;
      stack_.push_back(at(p));
      return true;
    }
    case whole:
      stack_.push_back(args_);
      return true;
    case variables: {
      std::vector<term> all;
      for (const auto& [n, p] : bound_) {
        if (!left_.take(size_of(p)))
          return false;
        all.push_back(at(p));
      }
      if (!may_make(all))
        return false;
      stack_.push_back(term::list(all));
      return true;
    }
    case call:
      return left_.take(cost_of(top(o.n)))
             && result(o.fn(caller_, top(o.n)), o.n, is_guard);
    case tuple:
      return may_make(top(o.n))
             && result(term::tuple(top(o.n)), o.n, is_guard);
    case list:
      return may_make(top(o.n + 1))
             && result(term::list(top(o.n + 1).first(o.n), stack_.back()),
                       o.n + 1, is_guard);
    case map:
      return may_make(top(2 * o.n))
             && result(made_map(top(2 * o.n)), 2 * o.n, is_guard);
    case all_true:
    case any_true:
      return result(combined(top(o.n), o.what == all_true), o.n, is_guard);
    case message:
      out_.message = stack_.back();
      return result(true_, 1, is_guard);
    case return_trace:
      out_.return_trace = true;
      return result(true_, 0, is_guard);
    case exception_trace:
      out_.exception_trace = true;
      return result(true_, 0, is_guard);
    case silent:
      if (stack_.back() == true_ || stack_.back() == false_)
        out_.silent = stack_.back() == true_;
      return result(true_, 1, is_guard);
    case get_tcw:
      return result(word(), 0, is_guard);
    case set_tcw:
      return result(set_word(), 1, is_guard);
    case drop:
      stack_.pop_back();
      return true;
    case guard: {
      const bool holds = stack_.back() == true_;
      stack_.pop_back();
      return holds;
    }
    case if_true:
    case if_false:
      break;
    }
    return true;
  }

  std::span<const term> top(std::size_t n) const noexcept {
    return std::span(stack_).last(n);
  }

  // A tuple, a list or a map of these.
  bool may_make(std::span<const term> parts) noexcept {
    std::size_t n = 0;
    for (const term& t : parts)
      n += t.bytes().size();
    return n <= most_made && left_.take(n);
  }

  // In the place of the last `n`.
  bool result(std::optional<term> v, std::size_t n, bool is_guard) {
    if (!v && is_guard)
      return false;
    stack_.resize(stack_.size() - n);
    stack_.push_back(v ? *std::move(v) : exit_);
    return true;
  }

  static std::optional<term> combined(std::span<const term> all, bool is_and) {
    bool v = is_and;
    for (const term& t : all) {
      if (t != true_ && t != false_)
        return std::nullopt;
      v = is_and ? v && t == true_ : v || t == true_;
    }
    return v ? true_ : false_;
  }

  // Of equal keys the last one counts.
  static term made_map(std::span<const term> all) {
    std::unordered_map<term, term> values;
    for (std::size_t i = 0; i < all.size(); i += 2)
      values.insert_or_assign(all[i], all[i + 1]);
    return term::map(std::vector<std::pair<term, term>>(values.begin(),
                                                        values.end()));
  }

  term word() const {
    return term::integer(tcw_ != nullptr ? tcw_->load() : 0);
  }
  std::optional<term> set_word() {
    const auto i = integer_of(stack_.back());
    if (!i || *i < 0 || *i > 0xFFFF'FFFFu)
      return std::nullopt;
    const term before = word();
    if (tcw_ != nullptr)
      tcw_->store(i->convert_to<std::uint32_t>());
    return before;
  }

  const caller& caller_;
  const term& args_;
  const pattern::bindings& bound_;
  std::atomic<std::uint32_t>* const tcw_;
  verdict& out_;
  budget& left_;
  std::vector<term> stack_;
};

verdict spec::run(const caller& c, const term& args,
                  std::atomic<std::uint32_t>* tcw) const try {
  budget left;
  for (const clause& one : clauses_) {
    pattern::bindings bound;
    verdict v;
    if (!one.head.matches(args, bound, left))
      continue;
    machine m(c, args, bound, tcw, v, left);
    if (!m.run(one.guards, one.labels, true)
        || !m.run(one.body, one.labels, false))
      continue;
    v.matched = true;
    return v;
  }
  return {};
} catch (const std::exception&) {
  return {}; // out of memory: no reason for a message not to be delivered
}

// Expressions to code, without recursion: what is to be written next lies on
// a heap of orders.
class compiler {
public:
  explicit compiler(use u) : use_(u) {}

  std::optional<std::string> clause_of(const term& t, spec::clause& c) {
    if (t.kind() != kind::tuple || t.arity() != 3)
      return "Match program part is not a tuple of arity 3.";
    clause_ = &c;
    if (auto wrong = c.head.take(t.element(0)))
      return wrong;
    const auto guards = t.element(1).as_list(), body = t.element(2).as_list();
    if (!guards || !body)
      return "Match expression is not a proper list.";
    is_guard_ = true;
    code_ = &c.guards;
    for (const term& g : *guards) {
      if (!expression(g))
        return wrong_;
      emit(code::guard);
    }
    is_guard_ = false;
    code_ = &c.body;
    for (const term& b : *body) {
      if (!expression(b))
        return wrong_;
      emit(code::drop);
    }
    return std::nullopt;
  }

private:
  using op = spec::op;
  using code = op::code;

  // Write this term, or this code, or bind this label here.
  struct order {
    enum class word { visit, emit, label } what;
    place at;
    op write;
  };

  bool expression(const term& t) {
    orders_.push_back({order::word::visit, begin_of(t), code::drop});
    while (!orders_.empty()) {
      const order o = std::move(orders_.back());
      orders_.pop_back();
      if (o.what == order::word::emit)
        emit(o.write);
      else if (o.what == order::word::label)
        clause_->labels[o.write.n] = code_->size();
      else if (!visit(o.at))
        return orders_.clear(), false;
    }
    return true;
  }

  void emit(op o) { code_->push_back(std::move(o)); }
  bool fail(std::string why) {
    wrong_ = std::move(why);
    return false;
  }

  bool visit(place p) {
    const auto h = etf::read(p);
    if (const auto v = variable_of(h); v >= 0) {
      if (!clause_->head.binds(v))
        return fail("Variable $" + std::to_string(v) + " is unbound.");
      emit({code::variable, static_cast<std::size_t>(v)});
      return true;
    }
    if (h.what == etf::form::atom) {
      if (h.name.text == "$_" || h.name.text == "$$")
        emit(h.name.text == "$_" ? code::whole : code::variables);
      else
        emit({code::push, 0, at(p)});
      return true;
    }
    if (is_list(h)) {
      const list_parts parts(p);
      auto all = parts.elements;
      all.push_back(parts.tail);
      then_emit(all, {code::list, parts.elements.size()});
      return true;
    }
    if (h.what == etf::form::map) {
      then_emit(children_of(h), {code::map, h.count});
      return true;
    }
    if (h.what == etf::form::tuple)
      return tuple(p, children_of(h));
    emit({code::push, 0, at(p)});
    return true;
  }

  void then_emit(const std::vector<place>& all, op o) {
    orders_.push_back({order::word::emit, nullptr, std::move(o)});
    for (auto i = all.rbegin(); i != all.rend(); ++i)
      orders_.push_back({order::word::visit, *i, code::drop});
  }

  // {{...}} is a tuple, {Function, Argument...} a call.
  bool tuple(place p, std::vector<place> all) {
    const auto first
        = all.empty() ? etf::head{} : etf::read(all.front());
    if (all.size() == 1 && first.what == etf::form::tuple) {
      then_emit(children_of(first), {code::tuple, first.count});
      return true;
    }
    if (all.empty() || first.what != etf::form::atom || variable_of(first) >= 0)
      return fail(at(p).to_string(100)
                  + " is neither a function call, nor a tuple (tuples are "
                    "written {{ ... }}).");
    const std::string name = etf::utf8_of(first.name);
    all.erase(all.begin());
    return call(name, all);
  }

  bool call(const std::string& name, const std::vector<place>& args) {
    const auto n = args.size();
    const auto is = [&](std::string_view f, std::size_t arity) {
      return name == f && n == arity;
    };
    if (name == "const") {
      if (n != 1)
        return fail("Special form 'const' takes one argument.");
      emit({code::push, 0, at(args[0])});
      return true;
    }
    if (name == "and" || name == "or" || name == "andalso" || name == "orelse")
      return n == 0 ? fail("Special form '" + name
                           + "' called without arguments.")
                    : logic(name, args);
    if (const auto f = find_function(name, n)) {
      then_emit(args, {code::call, n, {}, f});
      return true;
    }
    if (is("get_tcw", 0)) {
      emit(code::get_tcw);
      return true;
    }
    if (is_action(name, n) && is_guard_)
      return fail("Special form '" + name + "' called in guard context.");
    if (is("message", 1))
      then_emit(args, code::message);
    else if (is("silent", 1))
      then_emit(args, code::silent);
    else if (is("set_tcw", 1))
      then_emit(args, code::set_tcw);
    else if (is("return_trace", 0))
      emit(code::return_trace);
    else if (is("exception_trace", 0))
      emit(code::exception_trace);
    else if ((is("caller", 0) || is("caller_line", 0)) && use_ == use::calls)
      emit({code::push, 0, undefined}); // no Erlang function calls a task
    else
      return fail("Function " + name + "/" + std::to_string(n)
                  + " does_not_exist.");
    return true;
  }

  static bool is_action(std::string_view name, std::size_t n) {
    return name == "message" || name == "silent" || name == "set_tcw"
           || name == "return_trace" || name == "exception_trace"
           || (n == 0 && name.starts_with("caller"));
  }

  bool logic(const std::string& name, const std::vector<place>& args) {
    if (name == "and" || name == "or") {
      then_emit(args,
                {name == "and" ? code::all_true : code::any_true, args.size()});
      return true;
    }
    const auto end = clause_->labels.size();
    clause_->labels.push_back(0);
    orders_.push_back({order::word::label, nullptr, {code::push, end}});
    const auto jump = name == "andalso" ? code::if_true : code::if_false;
    for (auto i = args.rbegin(); i != args.rend(); ++i) {
      if (i != args.rbegin())
        orders_.push_back({order::word::emit, nullptr, {jump, end}});
      orders_.push_back({order::word::visit, *i, code::drop});
    }
    return true;
  }

  const use use_;
  spec::clause* clause_ = nullptr;
  std::vector<op>* code_ = nullptr;
  bool is_guard_ = false;
  std::vector<order> orders_;
  std::string wrong_;
};

std::variant<std::shared_ptr<const spec>, std::string>
spec::compile(const term& t, use u) {
  const auto clauses = t.as_list();
  if (!clauses || clauses->empty())
    return "Match programs are not in a list.";
  if (t.bytes().size() > most_bytes)
    return "Match programs are too large.";
  const auto made = std::make_shared<spec>();
  made->source_ = t;
  for (const term& one : *clauses)
    if (auto wrong = compiler(u).clause_of(one, made->clauses_.emplace_back()))
      return *std::move(wrong);
  return std::shared_ptr<const spec>(made);
}

} // namespace esp::match
