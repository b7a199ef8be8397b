%% Plugins of C-nodes, as `code' is for modules: load a new image beside the old
%% one, change co-ops to it while data flow, see what is loaded, and get rid of it.
%%
%% A plugin's current image is what new co-ops take their tasks from. Images that
%% were current before are old: each is unmapped as soon as nothing of it lives.
%% doc/upgrade.md is the contract.
-module(esp_plugin).

-export([load/2]).
-export([load/3]).
-export([upgrade/3]).
-export([upgrade/4]).
-export([downgrade/3]).
-export([downgrade/4]).
-export([info/1]).
-export([info/2]).
-export([soft_purge/2]).
-export([purge/2]).
-export([unload/2]).
%% for a change of code, by the C-node that is told of it
-export([renew/2]).

%% As long as the slowest node needs to make its new state, and what is under way
%% to get through.
-define(TIMEOUT, 30_000).
-define(CALL_TIMEOUT, 10_000).

-type image() :: #{
    plugin := atom(),
    vsn := binary(),
    %% of the file's contents, as of a module's
    md5 := binary(),
    file := binary(),
    tasks := [atom()],
    current := boolean(),
    %% how many processes run it
    processes := non_neg_integer(),
    %% it has thread-locals, or the like, that keep it mapped for good
    pinned := boolean()
}.
-type c_node() :: atom().
-export_type([image/0]).

%% @doc Loads a plugin again, from wherever it was loaded the last time, or from a
%% place that is named; what it gives is current from then on. The C-node has it
%% after its next restart, too.
-spec load(c_node(), coop_flow:plugin()) -> {ok, Vsn :: binary()} | {error, term()}.
load(CNode, Plugin) when is_atom(Plugin) ->
    case [Known || Known <- lists:reverse(esp_nodes:plugins(CNode)), name(Known) =:= Plugin] of
        [Last | _] -> load(CNode, Last);
        [] -> {error, {no_plugin, Plugin}}
    end;
load(CNode, Plugin) ->
    case esp_node:load_plugin(CNode, Plugin) of
        ok ->
            Name = name(Plugin),
            [Vsn] = [V || #{plugin := P, current := true, vsn := V} <- info(CNode), P =:= Name],
            {ok, Vsn};
        {error, _} = Error ->
            Error
    end.

%% @doc The same of a file, whose base name is the plugin's.
-spec load(c_node(), atom(), file:filename_all()) -> {ok, Vsn :: binary()} | {error, term()}.
load(CNode, Plugin, File) ->
    case name(File) of
        Plugin -> load(CNode, File);
        Other -> {error, {bad_name, Other}}
    end.

%% @doc Changes one co-op, or each of a C-node's, to the plugin's current image. A
%% co-op changes with all its nodes of that plugin or not at all: one that refuses
%% is named, and the data flow on either way. Of several co-ops each is on its own.
%% An atom is a co-op if it is the name of one.
-spec upgrade(coop_names:address() | c_node(), atom(), Extra :: term()) ->
    ok | {error, coop_upgrade:reason()} | {error, [{pid(), coop_upgrade:reason()}]}.
upgrade(Where, Plugin, Extra) ->
    upgrade(Where, Plugin, Extra, ?TIMEOUT).

-spec upgrade(coop_names:address() | c_node(), atom(), Extra :: term(), timeout()) ->
    ok | {error, coop_upgrade:reason()} | {error, [{pid(), coop_upgrade:reason()}]}.
upgrade(Where, Plugin, Extra, Timeout) ->
    change(Where, {[Plugin], undefined, Extra}, Timeout).

%% @doc The same to an image that is the older version: the tasks are told so.
-spec downgrade(coop_names:address() | c_node(), atom(), Extra :: term()) ->
    ok | {error, coop_upgrade:reason()} | {error, [{pid(), coop_upgrade:reason()}]}.
downgrade(Where, Plugin, Extra) ->
    downgrade(Where, Plugin, Extra, ?TIMEOUT).

-spec downgrade(coop_names:address() | c_node(), atom(), Extra :: term(), timeout()) ->
    ok | {error, coop_upgrade:reason()} | {error, [{pid(), coop_upgrade:reason()}]}.
downgrade(Where, Plugin, Extra, Timeout) ->
    change(Where, {[Plugin], {down, undefined}, Extra}, Timeout).

change(Where, Change, Timeout) ->
    case is_atom(Where) andalso coop_names:head(Where) of
        Pid when is_pid(Pid) -> change_coop(Pid, Change, Timeout);
        undefined -> change_all(Where, Change, Timeout);
        false -> change_coop(coop_names:head(Where), Change, Timeout)
    end.

change_coop(undefined, _Change, _Timeout) ->
    {error, noproc};
change_coop(Pid, Change, Timeout) ->
    coop_upgrade:run(coop_names:behind(Pid), Change, Timeout, fun(_CNode) -> ok end).

%% One after the other, so that one that feeds another finds that one at work.
change_all(CNode, Change = {[Plugin], _, _}, Timeout) ->
    case heads_of_old(CNode, Plugin) of
        {error, _} = Error ->
            Error;
        {Heads, Silent} ->
            Results =
                [{Head, change_coop(Head, Change, Timeout)} || Head <- Heads] ++
                    [{Node, {error, timeout}} || Node <- Silent],
            case [{Pid, Reason} || {Pid, {error, Reason}} <- Results, Reason =/= noproc] of
                [] -> ok;
                Refused -> {error, Refused}
            end
    end.

%% Of co-ops that have a node of an image that is not the current one; and the
%% nodes that were at work for too long to say which co-op is theirs.
heads_of_old(CNode, Plugin) ->
    case request(CNode, {nodes_of_old, Plugin}) of
        {error, _} = Error ->
            Error;
        Nodes ->
            Asked = [{Node, gen:send_request(Node, '$coop', head)} || Node <- Nodes],
            Deadline = erlang:monotonic_time(millisecond) + ?CALL_TIMEOUT,
            Answers = [head_of(Each, Deadline) || Each <- Asked],
            {lists:usort([H || {head, H} <- Answers]), [N || {silent, N} <- Answers]}
    end.

head_of({Node, Request}, Deadline) ->
    case gen:wait_response(Request, max(0, Deadline - erlang:monotonic_time(millisecond))) of
        {reply, Head} when is_pid(Head) -> {head, coop_names:behind(Head)};
        timeout -> {silent, Node};
        _ -> ended
    end.

%% @doc The images on a C-node: the current ones, and old ones that live.
-spec info(c_node()) -> [image()] | {error, term()}.
info(CNode) ->
    request(CNode, images).

-spec info(c_node(), atom()) -> [image()] | {error, term()}.
info(CNode, Plugin) ->
    case info(CNode) of
        {error, _} = Error -> Error;
        Images -> [Image || Image = #{plugin := P} <- Images, P =:= Plugin]
    end.

%% @doc Whether nothing is left of a plugin's old images: as with
%% `code:soft_purge/1', nobody is killed for it.
-spec soft_purge(c_node(), atom()) -> boolean() | {error, term()}.
soft_purge(CNode, Plugin) ->
    request(CNode, {soft_purge, Plugin}).

%% @doc Kills the nodes that run old images of a plugin, and with them their co-ops
%% (or these make new ones, of the current image, with `restart => body'). True if
%% there were any.
-spec purge(c_node(), atom()) -> boolean() | {error, term()}.
purge(CNode, Plugin) ->
    case heads_of_old(CNode, Plugin) of
        {error, _} = Error ->
            Error;
        {Heads, _Silent} ->
            Result = request(CNode, {purge, Plugin}),
            %% those that live on in a new body
            lists:foreach(fun coop_upgrade:let_go/1, Heads),
            Result
    end.

%% @doc Makes the current image an old one, as `code:delete/1' does: no co-op can
%% be started of it, and those that are go on. False if there is none.
-spec unload(c_node(), atom()) -> boolean() | {error, term()}.
unload(CNode, Plugin) ->
    case request(CNode, {unload_plugin, Plugin}) of
        true ->
            ok = esp_nodes:forget_plugins(CNode, [
                Known || Known <- esp_nodes:plugins(CNode), name(Known) =:= Plugin
            ]),
            true;
        Other ->
            Other
    end.

%% @doc Loads those of the plugins whose file is another one now than what is
%% loaded of it: `{App, Plugin}' is in the `priv' folder that the application has
%% by now. One that this VM has not loaded is left alone.
-spec renew(node(), [atom()]) -> ok | {error, term()}.
renew(CNode, Plugins) ->
    Known = lists:append([esp_nodes:plugins(Name) || {Name, Full} <- esp_nodes:all(), Full =:= CNode]),
    %% the last one of each name is the one that is current
    Last = maps:from_list([{name(Each), Each} || Each <- Known]),
    renew_all(CNode, maps:values(maps:with(Plugins, Last))).

renew_all(_CNode, []) ->
    ok;
renew_all(CNode, [Plugin | Rest]) ->
    case esp_node:renew_plugin(CNode, Plugin) of
        ok -> renew_all(CNode, Rest);
        {error, _} = Error -> Error
    end.

name({_App, Plugin}) -> Plugin;
name(Plugin) when is_atom(Plugin) -> Plugin;
name(File) -> list_to_atom(filename:basename(unicode:characters_to_list(File), ".so")).

request(CNode, Request) ->
    try
        gen_server:call({erlangsp, esp_node:node(CNode)}, Request, ?CALL_TIMEOUT)
    catch
        exit:{{nodedown, _}, _} -> {error, noconnection};
        exit:{noconnection, _} -> {error, noconnection};
        exit:{Reason, _} -> {error, Reason}
    end.
