%% Options, each checked once, in maps with their defaults in one place. What
%% comes out of here needs no further look.
-module(esp_config).

-export([coop/1]).
-export([spec/2]).
-export([late_node/1]).
-export([plugins/1]).
-export([wire_spec/1]).
-export([c_node/1]).

-type coop_options() :: #{
    receiver := coop_receiver:destination(),
    node := atom(),
    name := atom() | undefined,
    window := pos_integer(),
    max_queue := pos_integer(),
    max_queue_bytes := pos_integer(),
    overload := coop_overload:policy(),
    dead_letter := coop_dead_letter:destination(),
    restart := none | {Intensity :: non_neg_integer(), Period :: pos_integer()},
    tag := coop_results:tag(),
    batch := coop_results:batch(),
    instances := pos_integer(),
    dataflow := coop_dataflow:method(),
    stand_in := boolean(),
    modules := [module()],
    start_timeout := timeout()
}.
-type c_node_options() :: #{
    name := atom(),
    binary := file:filename(),
    cookie := atom() | undefined,
    start_timeout := timeout(),
    grace := non_neg_integer(),
    plugins := [coop_flow:plugin()],
    intensity := non_neg_integer(),
    period := pos_integer(),
    arguments := [string()]
}.
-type error() :: {error, {bad_option, term()} | {unsupported, atom()} | term()}.
-export_type([coop_options/0, c_node_options/0, error/0]).

%%% coop:start_link/2

%% Workers of a `consume' without numbers of its own: at first, with so many left
%% more, so many more.
-define(SLAB, {64, 32, 32}).

-spec coop(map()) -> {ok, coop_options()} | error().
coop(Options) when is_map(Options) ->
    Defaults = #{
        receiver => none,
        node => esp,
        name => undefined,
        window => 1_000,
        max_queue => 10_000,
        max_queue_bytes => 64 * 1024 * 1024,
        overload => block,
        dead_letter => none,
        restart => none,
        tag => none,
        batch => none,
        instances => 1,
        dataflow => undefined,
        stand_in => false,
        modules => [],
        start_timeout => 10_000
    },
    case check_all(Options, Defaults, fun coop_option/2) of
        {ok, #{dataflow := undefined, instances := 1} = Checked} ->
            {ok, Checked#{dataflow := broadcast}};
        {ok, #{dataflow := undefined} = Checked} ->
            {ok, Checked#{dataflow := round_robin}};
        Checked ->
            Checked
    end;
coop(Other) ->
    {error, {bad_option, Other}}.

coop_option(receiver, Receiver) ->
    receiver(Receiver);
coop_option(node, Node) when is_atom(Node), Node =/= undefined -> {ok, Node};
coop_option(name, Name) when is_atom(Name) -> {ok, Name};
coop_option(Key, N) when
    (Key =:= window orelse Key =:= max_queue orelse Key =:= max_queue_bytes orelse
        Key =:= instances),
    is_integer(N),
    N > 0
->
    {ok, N};
coop_option(dataflow, Method) ->
    case coop_dataflow:check_head(vm, Method) of
        ok -> {ok, Method};
        {error, _} -> bad
    end;
coop_option(overload, Policy) when Policy =:= block; Policy =:= shed; Policy =:= drop_oldest ->
    {ok, Policy};
coop_option(overload, {sojourn, Ms} = Policy) when is_integer(Ms), Ms > 0, Ms < 1 bsl 31 ->
    {ok, Policy};
coop_option(dead_letter, none) ->
    {ok, none};
coop_option(dead_letter, Pid) when is_pid(Pid) ->
    {ok, {pid, Pid}};
coop_option(dead_letter, {Name, Node}) when is_atom(Name), is_atom(Node) ->
    {ok, {name, Name, Node}};
coop_option(dead_letter, Name) when is_atom(Name), Name =/= undefined ->
    {ok, {name, Name, node()}};
coop_option(batch, N) when is_integer(N), N > 0, N < 1 bsl 31 ->
    {ok, N};
coop_option(restart, none) ->
    {ok, none};
coop_option(restart, body) ->
    coop_option(restart, {body, #{}});
coop_option(restart, {body, Flags}) when is_map(Flags) ->
    %% a supervisor's flags, with its defaults
    case maps:merge(#{intensity => 1, period => 5}, Flags) of
        #{intensity := Intensity, period := Period} = All when
            map_size(All) =:= 2,
            is_integer(Intensity),
            Intensity >= 0,
            is_integer(Period),
            Period > 0
        ->
            {ok, {Intensity, Period}};
        _ ->
            bad
    end;
coop_option(tag, Tag) ->
    {ok, {tag, Tag}};
coop_option(start_timeout, Timeout) ->
    timeout_option(Timeout);
coop_option(stand_in, Is) when is_boolean(Is) ->
    {ok, Is};
coop_option(modules, Modules) when is_list(Modules) ->
    case lists:all(fun is_atom/1, Modules) of
        true -> {ok, Modules};
        false -> bad
    end;
coop_option(_Key, _Value) ->
    bad.

receiver(none) ->
    {ok, none};
receiver(Pid) when is_pid(Pid) ->
    %% a co-op that was started here is recognized by its head, too
    case coop_names:origin(Pid) of
        {ok, _} -> {ok, {coop, coop_names:behind(Pid)}};
        error -> {ok, {pid, Pid}}
    end;
receiver({demand, Pid}) when is_pid(Pid) ->
    {ok, {demand, Pid}};
receiver({Name, Node}) when is_atom(Name), Node =:= node() ->
    receiver(Name);
receiver({Name, Node}) when is_atom(Name), is_atom(Node) ->
    {ok, {name, Name, Node}};
receiver(Name) when is_atom(Name), Name =/= undefined ->
    %% so is one by its name, which on a C-node is not in our registry
    Head = coop_names:head(Name),
    case is_pid(Head) andalso coop_names:origin(Head) of
        {ok, _} -> {ok, {coop, coop_names:behind(Head)}};
        _ -> {ok, {name, Name, node()}}
    end;
receiver(Other) ->
    try coop_names:head(Other) of
        Head when is_pid(Head) -> {ok, {coop, coop_names:behind(Head)}};
        _ -> {error, {bad_option, {receiver, Other}}}
    catch
        error:function_clause -> {error, {bad_option, {receiver, Other}}}
    end.

%%% Templates

%% @doc A template with its options, as the contract between homes spells it;
%% with it what to load before, by node.
-spec spec(coop_flow:template(), coop_options()) ->
    {ok, coop_body:spec(), [{atom(), coop_flow:plugin()}]} | error().
spec(Template, Options) ->
    #{instances := Instances} = Options,
    Edges0 = coop_flow:edges(Template),
    try
        Checked = workers(lists:map(fun node_spec/1, coop_flow:nodes(Template)), Edges0, Options),
        {Checked, coop_instances:expand(Instances, Checked, Edges0)}
    of
        {_, {error, _} = Error} ->
            Error;
        {Checked, {ok, Nodes, Edges}} ->
            Common = maps:with(
                [
                    window,
                    name,
                    max_queue,
                    max_queue_bytes,
                    overload,
                    receiver,
                    dead_letter,
                    restart,
                    tag,
                    batch,
                    instances,
                    dataflow
                ],
                Options
            ),
            Plugins = [
                {Name, Source}
             || #{name := Name, source := Source} <- Checked, not is_atom(Source)
            ],
            {ok,
                Common#{
                    modules => lists:usort(
                        maps:get(modules, Options) ++ lists:flatmap(fun modules/1, Checked)
                    ),
                    nodes => [maps:remove(source, Node) || Node <- Nodes],
                    edges => Edges
                },
                Plugins}
    catch
        throw:{?MODULE, Reason} -> {error, Reason}
    end.

%% Whose change of code is that of a node.
modules(#{home := native, plugin := Plugin}) ->
    [Plugin];
modules(#{task := {Module, _Function}}) ->
    [Module];
modules(#{task := Fun}) ->
    {module, Module} = erlang:fun_info(Fun, module),
    [Module].

%% @doc The plugins of a template's native nodes, by name.
-spec plugins(coop_flow:template()) -> [atom()].
plugins(Template) ->
    Nodes = lists:map(fun node_spec/1, coop_flow:nodes(Template)),
    lists:usort([Plugin || #{home := native, plugin := Plugin} <- Nodes]).

%% A router by `consume' has one kind of worker, which has no other use; it is
%% told so.
workers(Nodes, Edges, Options) ->
    Routers = [Name || #{name := Name, dataflow := {consume, _}} <- Nodes],
    Routers =:= [] orelse maps:get(restart, Options) =:= none orelse
        throw({?MODULE, {unsupported, restart}}),
    UsedBy = maps:from_list([{worker(Name, Routers, Edges), Name} || Name <- Routers]),
    [
        case UsedBy of
            #{Name := Router} -> Node#{used_by => Router};
            #{} -> Node
        end
     || Node = #{name := Name} <- Nodes
    ].

worker(Router, Routers, Edges) ->
    case [To || {From, To} <- Edges, From =:= Router] of
        [Worker] ->
            [From || {From, To} <- Edges, To =:= Worker] =:= [Router] orelse
                fail(Worker, {consume_needs, one_upstream}),
            lists:member(Worker, Routers) andalso fail(Worker, {consume_needs, other_dataflow}),
            Worker;
        _ ->
            fail(Router, {consume_needs, one_downstream})
    end.

%% @doc A node that an Erlang task starts, on its own VM.
-spec late_node(coop_flow:node_spec()) -> {ok, map()} | {error, term()}.
late_node(NodeSpec) ->
    try maps:remove(source, node_spec(NodeSpec)) of
        #{name := Name, home := native} -> {error, {bad_node, Name, {other_home, native}}};
        #{name := Name, dataflow := {consume, _}} ->
            {error, {bad_node, Name, {consume_needs, one_downstream}}};
        Node -> {ok, Node}
    catch
        throw:{?MODULE, Reason} -> {error, Reason}
    end.

node_spec(#{name := Name, home := vm, task := Task, options := Options}) ->
    check_task(Name, Task),
    Defaults = #{init => undefined, flush => undefined, dataflow => broadcast},
    Checked = node_options(Name, Options, Defaults, fun task_option/2),
    Checked#{name => Name, home => vm, task => Task};
node_spec(#{name := Name, home := native, plugin := Source, task := Task, options := Options}) ->
    is_atom(Task) orelse fail(Name, {no_task, Source, Task}),
    Defaults = #{args => undefined, dataflow => broadcast},
    Checked = node_options(Name, Options, Defaults, fun native_option/2),
    Checked#{
        name => Name, home => native, plugin => plugin(Name, Source), source => Source, task => Task
    }.

check_task(_Name, Fun) when is_function(Fun, 2) ->
    ok;
check_task(Name, {Module, Function}) when is_atom(Module), is_atom(Function) ->
    check_exported(Name, {Module, Function, 2});
check_task(Name, Task) ->
    fail(Name, {bad_task, Task}).

check_exported(Name, {Module, Function, Arity} = Mfa) ->
    _ = code:ensure_loaded(Module),
    erlang:function_exported(Module, Function, Arity) orelse
        erlang:is_builtin(Module, Function, Arity) orelse fail(Name, {undef, Mfa}),
    ok.

node_options(Name, Options, Defaults, Check) when is_map(Options) ->
    case check_all(Options, Defaults, Check) of
        {ok, Checked} -> Checked;
        {error, Cause} -> fail(Name, Cause)
    end;
node_options(Name, Options, _Defaults, _Check) ->
    fail(Name, {bad_option, Options}).

task_option(init, Fun) when is_function(Fun, 0) ->
    {ok, Fun};
task_option(init, {Module, Function, Args} = Init) when
    is_atom(Module), is_atom(Function), is_list(Args)
->
    _ = code:ensure_loaded(Module),
    case erlang:function_exported(Module, Function, length(Args)) of
        true -> {ok, Init};
        false -> {error, {undef, {Module, Function, length(Args)}}}
    end;
task_option(flush, Fun) when is_function(Fun, 1) ->
    {ok, Fun};
task_option(dataflow, Method) ->
    dataflow(vm, Method);
task_option(_Key, _Value) ->
    bad.

native_option(args, Args) -> {ok, Args};
native_option(stack, Size) when is_integer(Size), Size > 0 -> {ok, Size};
native_option(dataflow, Method) -> dataflow(native, Method);
native_option(_Key, _Value) -> bad.

dataflow(Home, consume) ->
    dataflow(Home, {consume, ?SLAB});
dataflow(Home, Method) ->
    case coop_dataflow:check(Home, Method) of
        ok -> {ok, Method};
        {error, _} = Error -> Error
    end.

plugin(_Name, Plugin) when is_atom(Plugin) -> Plugin;
plugin(_Name, {App, Plugin}) when is_atom(App), is_atom(Plugin) -> Plugin;
plugin(Name, File) ->
    try
        list_to_atom(filename:basename(unicode:characters_to_list(File), ".so"))
    catch
        error:_ -> fail(Name, {no_plugin, File})
    end.

-spec fail(term(), term()) -> no_return().
fail(Name, Cause) ->
    throw({?MODULE, {bad_node, Name, Cause}}).

%% @doc What the C-node is told: of the VM's nodes no more than that they are
%% there, for their tasks may be funs. So may be what a head here goes by.
-spec wire_spec(coop_body:spec()) -> map().
wire_spec(Spec = #{nodes := Nodes, dataflow := Dataflow}) ->
    Spec#{nodes := lists:map(fun wire_node/1, Nodes), dataflow := wire_dataflow(Dataflow)}.

wire_node(#{home := vm, dataflow := {consume, _}} = Node) ->
    maps:with([name, base, home, dataflow], Node);
wire_node(#{home := vm} = Node) -> (maps:with([name, base, home], Node))#{dataflow => broadcast};
wire_node(Node) -> Node.

wire_dataflow({hash, Fun}) when is_function(Fun) -> broadcast;
wire_dataflow(Dataflow) -> Dataflow.

%%% esp_node

-spec c_node(map()) -> {ok, c_node_options()} | error().
c_node(Options) when is_map(Options) ->
    Defaults = #{
        name => esp,
        binary => default_binary(),
        cookie => undefined,
        start_timeout => 10_000,
        grace => 2_000,
        plugins => [],
        intensity => 5,
        period => 10,
        arguments => []
    },
    %% Everything else is the executable's: #{workers => 4} is --workers 4.
    {Ours, Theirs} = maps:fold(
        fun(Key, Value, {A, B}) ->
            case is_map_key(Key, Defaults) of
                true -> {A#{Key => Value}, B};
                false -> {A, [{Key, Value} | B]}
            end
        end,
        {#{}, []},
        Options
    ),
    case {check_all(maps:remove(arguments, Ours), Defaults, fun c_node_option/2), arguments(Theirs)} of
        {{ok, Checked}, {ok, Arguments}} -> {ok, Checked#{arguments := Arguments}};
        {{ok, _}, Error} -> Error;
        {Error, _} -> Error
    end;
c_node(Other) ->
    {error, {bad_option, Other}}.

default_binary() ->
    case os:getenv("ESP_NODE_BINARY") of
        Set when Set =:= false; Set =:= "" ->
            case code:priv_dir(erlangsp) of
                {error, bad_name} -> "priv/esp_node";
                Priv -> filename:join(Priv, "esp_node")
            end;
        Binary ->
            Binary
    end.

c_node_option(name, Name) when is_atom(Name) -> {ok, Name};
c_node_option(binary, Binary) when is_list(Binary); is_binary(Binary) ->
    {ok, unicode:characters_to_list(Binary)};
c_node_option(cookie, Cookie) when is_atom(Cookie) -> {ok, Cookie};
c_node_option(start_timeout, Timeout) -> timeout_option(Timeout);
c_node_option(plugins, Plugins) when is_list(Plugins) -> {ok, Plugins};
c_node_option(Key, N) when
    (Key =:= grace orelse Key =:= intensity), is_integer(N), N >= 0
->
    {ok, N};
c_node_option(period, N) when is_integer(N), N > 0 -> {ok, N};
c_node_option(_Key, _Value) -> bad.

arguments(Options) ->
    case lists:keyfind(rpc, 1, Options) of
        {rpc, Policy} = Bad when Policy =/= all, Policy =/= inspect, Policy =/= none ->
            {error, {bad_option, Bad}};
        _ ->
            texts(Options)
    end.

texts(Options) ->
    try
        {ok, lists:append([["--" ++ atom_to_list(Key), text(Value)] || {Key, Value} <- Options])}
    catch
        error:_ -> {error, {bad_option, [Key || {Key, _} <- Options]}}
    end.

text(Atom) when is_atom(Atom) -> atom_to_list(Atom);
text(Integer) when is_integer(Integer) -> integer_to_list(Integer);
text(Text) when is_list(Text); is_binary(Text) ->
    Chars = unicode:characters_to_list(Text),
    true = is_list(Chars),
    Chars.

%%% Shared

timeout_option(infinity) -> {ok, infinity};
timeout_option(Timeout) when is_integer(Timeout), Timeout >= 0 -> {ok, Timeout};
timeout_option(_Other) -> bad.

%% A key that means nothing here is named alone, a value that cannot be with its
%% key.
check_all(Options, Defaults, Check) ->
    maps:fold(
        fun
            (Key, Value, {ok, Acc}) ->
                case Check(Key, Value) of
                    {ok, Checked} -> {ok, Acc#{Key => Checked}};
                    bad when is_map_key(Key, Defaults) -> {error, {bad_option, {Key, Value}}};
                    bad -> {error, {bad_option, Key}};
                    {error, _} = Error -> Error
                end;
            (_Key, _Value, Error) ->
                Error
        end,
        {ok, Defaults},
        Options
    ).
