%% The few of PropEr's macros that our suites use. Debian's erlang-proper comes
%% without its header; these are the functions that it would call.
-define(FORALL(X, Type, Property), proper:forall(Type, fun(X) -> Property end)).
-define(LET(X, Type, Generator), proper_types:bind(Type, fun(X) -> Generator end, false)).
-define(SUCHTHAT(X, Type, Condition),
    proper_types:add_constraint(Type, fun(X) -> Condition end, true)
).
-define(WHENFAIL(Action, Property), proper:whenfail(fun() -> Action end, fun() -> Property end)).
